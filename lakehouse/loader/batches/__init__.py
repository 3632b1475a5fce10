"""From positions to batches: reads, decoding, transforms, collation."""
