"""The inputs of the functions of a pass, a block of rows at a time: read once, and of large blobs what is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import reads, types
from lakehouse.features.udfs.inputs import decodes
from lakehouse.features.udfs.shared import Decoded, Shared
from lakehouse.media.blobs import BlobInputs
from lakehouse.media.sizes import mean_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakehouse.features.computing.asked import Asked
    from lakehouse.features.udfs.inputs import Column
    from lakehouse.features.udfs.signature import InputKind
    from lakehouse.snapshot import Snapshot

__all__ = ["num_rows", "read"]

_ROWS = 65_536  # where no media are among the inputs
# Decoded for one function and waiting for the next: little enough to stay in the caches of the processor.
_DECODED_NBYTES = 16 << 20
_FIRST_ROWS = 8  # nobody knows beforehand how large pictures are once they are decoded
_HANDLES = ("image", "video", "audio", "blob")
_LAZY_NBYTES = 1 << 20  # of a medium; smaller ones are read whole, many at once


def num_rows(snapshot: Snapshot, names: Sequence[str]) -> int:
    """Return how many rows of these columns to read at a time."""
    has_media = any(types.is_bytes_media(snapshot.schema.field(name)) for name in names)
    return reads.rows_per_batch(snapshot, names) if has_media else _ROWS


def read(
    snapshot: Snapshot, fragment: Any, asked: Asked, takers: Mapping[str, Sequence[InputKind]], batch_size: int
) -> Iterator[tuple[Asked, dict[str, Column]]]:
    """Yield blocks of rows, and their inputs by column.

    Parameters
    ----------
    snapshot, fragment
        Where they are.
    asked
        The rows.
    takers
        The columns, each with the forms in which functions take it.
    batch_size
        Blocks are whole batches of so many rows.
    """
    lazy = [name for name, kinds in takers.items() if _is_lazy(snapshot, name, kinds)]
    names = [name for name in takers if name not in lazy]
    decoded_by = {name: by for name in names if (by := _decoded_by(snapshot, name, takers[name]))}
    rows = max(batch_size, num_rows(snapshot, names) // batch_size * batch_size)
    fitting = max(batch_size, _FIRST_ROWS // batch_size * batch_size) if decoded_by else rows
    done = 0
    for arrays in _arrays(snapshot, fragment, asked, names, rows):
        start, stop = 0, len(arrays[0]) if arrays else min(rows, asked.num_rows - done)
        while start < stop:
            some = slice(start, min(start + fitting, stop))
            block = asked.only(slice(done + some.start, done + some.stop))
            decoded = {name: Decoded(by) for name, by in decoded_by.items()}
            given = {name: array[some] for name, array in zip(names, arrays, strict=True)}
            yield (
                block,
                {
                    **{
                        name: Shared(array, decoded[name]) if name in decoded else array
                        for name, array in given.items()
                    },
                    **{name: BlobInputs(snapshot, name, block.row_ids) for name in lazy},
                },
            )
            nbytes = sum(each.nbytes for each in decoded.values())
            if nbytes:
                fitting = max(batch_size, _DECODED_NBYTES * block.num_rows // nbytes // batch_size * batch_size)
            start = some.stop
        done += stop


def _arrays(
    snapshot: Snapshot, fragment: Any, asked: Asked, names: Sequence[str], rows: int
) -> Iterator[list[pa.Array]]:
    """Yield columns: one scan where the whole fragment is asked for, reads by row id else."""
    if names and asked.num_rows == fragment.count_rows():
        for batch in reads.scan_fragment(snapshot, fragment, names, rows):
            yield batch.columns
        return
    for start in range(0, asked.num_rows, rows):
        ids = asked.row_ids[start : start + rows]
        table = reads.take_row_ids(snapshot, ids, names, max_media_nbytes=None) if names else pa.table({})
        yield [table[name].combine_chunks() for name in names]


def _is_lazy(snapshot: Snapshot, name: str, kinds: Sequence[InputKind]) -> bool:
    """Whether all functions take handles, so that each reads what it wants of a large blob."""
    return (
        types.is_blob(snapshot.schema.field(name))
        and all(kind.form in _HANDLES for kind in kinds)
        and mean_nbytes(snapshot, name) > _LAZY_NBYTES
    )


def _decoded_by(snapshot: Snapshot, name: str, kinds: Sequence[InputKind]) -> dict[str, int]:
    """Return the forms that more than one function has the media decoded to, and how many."""
    forms = Counter(kind.form for kind in kinds if decodes(snapshot.schema.field(name).type, kind))
    return {form: count for form, count in forms.items() if count > 1}
