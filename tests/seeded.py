"""Small data that looks real and is the same for the same seed."""

import hashlib
import io

import numpy as np
import pyarrow as pa
from PIL import Image


def pictures(num_rows, seed=0, width_px=24, height_px=16):
    """Return rows of the `images` family whose pictures differ, the same for the same seed."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(num_rows):
        pixels = rng.integers(0, 256, (height_px, width_px, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append(
            {
                "id": hashlib.sha256(file.getvalue()).hexdigest(),
                "image": file.getvalue(),
                "width": width_px,
                "height": height_px,
                "format": "PNG",
                "split": ("train", "val", "test")[number % 3],
                "caption": f"picture {number} of {num_rows}",
            }
        )
    return pa.Table.from_pylist(rows)
