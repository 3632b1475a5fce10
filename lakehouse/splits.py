"""Which rows train and which test: by a hash that outlives the table's growth, and a look for contents in both."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from fractions import Fraction
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from lakehouse import reads, types
from lakehouse.errors import InvalidArgumentError, SchemaError
from lakehouse.features.udfs.udf import UDF, UDFClass, udf
from lakehouse.progress import track
from lakehouse.types import Type

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakehouse.snapshot import Snapshot

__all__ = ["LEAKS", "split_by", "split_leaks"]

LEAKS = pa.schema(
    [
        pa.field("sha256", pa.string()),
        pa.field("row_ids", pa.list_(pa.uint64())),
        pa.field("splits", pa.list_(pa.string())),
    ]
)
_HASHED = 1 << 64  # a key is hashed to a whole number below this
_logger = logging.getLogger("lakehouse")


class _Splitter(UDFClass):
    """The declared class: its words depend on what it is called with, and a backfill calls it with the same again."""

    def __call__(self, column: str, splits: list[str], shares: list[float], seed: int) -> UDF:
        words = Type("category", values=tuple(splits))
        declared = udf(words, inputs=[column], batch=True, version=1)(self.target)
        return declared(column=column, splits=splits, shares=shares, seed=seed)  # type: ignore[no-any-return]  # a UDFClass


class _Split:
    def __init__(self, column: str, splits: list[str], shares: list[float], seed: int) -> None:  # noqa: ARG002 - hashed
        parts = [Fraction(str(share)) for share in shares]
        ends = [end * _HASHED / sum(parts) for end in accumulate(parts)]
        self._ends = np.array([int(end) for end in ends[:-1]], np.uint64)
        self._words = pa.array(splits, pa.string())
        self._key = seed.to_bytes(8, "little")

    def __call__(self, keys: pa.Array) -> pa.Array:
        hashes = np.fromiter((self._hash(key) for key in _contents(keys)), np.uint64, len(keys))
        codes = pa.array(np.searchsorted(self._ends, hashes, side="right"))
        return self._words.take(pc.if_else(keys.is_valid(), codes, None))

    def _hash(self, key: bytes | memoryview) -> int:
        return int.from_bytes(hashlib.blake2b(key, digest_size=8, key=self._key).digest(), "little")


_Split = _Splitter(_Split, {})  # type: ignore[assignment,misc]  # as a decorator would


def split_by(column: str, fractions: Mapping[str, float], *, seed: int = 0) -> UDF:
    """Return a function that splits rows by a hash of a column: a feature to declare and fill.

    Rows with the same value stand in the same split: name the key, or the group that must not be torn apart, a
    patient or a video. A row's split depends on nothing else, so it stays what it is as the table grows, and it is the
    same on every machine and in every release. Rows where the column is NULL are in no split.

    Parameters
    ----------
    column
        Words, whole numbers or bytes. A whole number and its digits as a word are the same.
    fractions
        The share of each split, adding up to 1; the splits become a category, in this order.
    seed
        Which of the possible splits, in ``[0, 2**63)``.

    Raises
    ------
    InvalidArgumentError
        Shares that are not positive or do not add up to 1, or a seed out of its range.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"id": f"pet{i}"} for i in range(1000)])
    >>> _ = table.add_columns({"split": lh.split_by("id", {"train": 0.8, "val": 0.1, "test": 0.1})})
    >>> _ = table.backfill("split", progress=False)
    >>> table.count_rows("split = 'train'"), table.count_rows("split = 'test'")
    (793, 117)
    """
    if not isinstance(fractions, Mapping) or not fractions:
        raise InvalidArgumentError(
            f"fractions is {fractions!r}; give a share to each split: {{'train': 0.9, 'test': 0.1}}"
        )
    shares = list(fractions.values())
    if not all(isinstance(share, int | float) and share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-9:
        raise InvalidArgumentError(f"the shares {dict(fractions)} are positive numbers that add up to 1")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 63:
        raise InvalidArgumentError(f"seed is {seed!r}; it is a whole number, 0 to {(1 << 63) - 1}")
    return _Split(column, list(fractions), shares, int(seed))  # type: ignore[return-value]  # what the decorated class gives


def split_leaks(snapshot: Snapshot, split: str, content: str, *, progress: bool | None = None) -> pa.Table:
    """Find contents that stand in more than one split.

    Contents are streamed and only their hashes are kept, 44 bytes a row.

    Parameters
    ----------
    snapshot
        The version.
    split
        The column with the splits; rows where it is NULL are in none.
    content
        The column to compare: media, words, bytes or whole numbers. NULL equals nothing.
    progress
        See `lakehouse.progress.track`.

    Returns
    -------
    pyarrow.Table
        ``sha256, row_ids, splits``: one row a content; ``splits[i]`` is the split of ``row_ids[i]``.

    Raises
    ------
    ColumnNotFoundError
    SchemaError
        A content of another type.
    """
    snapshot.columns([split, content])
    _check_comparable(content, snapshot.schema.field(content).type)
    if content != "phash" and "phash" in snapshot.schema.names and types.media_kind(snapshot.schema.field(content)):
        _logger.info("pictures that look alike and differ in bytes: split_leaks(%r, content='phash')", split)
    words: dict[str, int] = {}
    parts = [(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int32))]
    with track(f"comparing {content} of {snapshot.name}", snapshot.num_rows, enabled=progress) as tracker:
        for batch in reads.scan(snapshot, list(dict.fromkeys([split, content])), with_row_id=True):
            present = batch.filter(pc.and_(batch[content].is_valid(), batch[split].is_valid()))
            hashes = b"".join(hashlib.sha256(each).digest() for each in _contents(present[content]))
            codes = [words.setdefault(str(word), len(words)) for word in present[split].to_pylist()]
            row_ids = np.asarray(present[reads.ROW_ID], np.uint64)
            parts.append((np.frombuffer(hashes, np.uint64), row_ids, np.array(codes, np.int32)))
            tracker.advance(batch.num_rows, nbytes=batch.nbytes)
    flat, ids, splits = (np.concatenate(column) for column in zip(*parts, strict=True))
    digests = flat.reshape(-1, 4)
    leaks = list(_leaks(digests, splits))
    columns = {
        "sha256": [digests[leak[0]].tobytes().hex() for leak in leaks],
        "row_ids": [ids[leak] for leak in leaks],
        "splits": [[list(words)[code] for code in splits[leak]] for leak in leaks],
    }
    return pa.Table.from_pydict(columns, schema=LEAKS)


def _leaks(digests: npt.NDArray[np.uint64], codes: npt.NDArray[np.int32]) -> Iterator[npt.NDArray[np.int64]]:
    """Give the places of equal digests with different codes, each in order, by the first of them."""
    if not len(digests):
        return
    order = np.lexsort(digests.T)  # which keeps the order of equal ones
    starts = np.flatnonzero(np.concatenate(([True], (digests[order][1:] != digests[order][:-1]).any(axis=1))))
    ends = np.append(starts[1:], len(order))
    torn = np.minimum.reduceat(codes[order], starts) != np.maximum.reduceat(codes[order], starts)
    groups = sorted(zip(order[starts[torn]], starts[torn], ends[torn], strict=True))
    yield from (order[start:end] for _, start, end in groups)


def _contents(values: pa.Array) -> Iterator[Any]:
    """Give each value as bytes that mean it on every machine; NULL as none at all."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    _check_comparable("the column", values.type)
    if pa.types.is_boolean(values.type) or pa.types.is_integer(values.type):
        yield from (str(value).lower().encode() for value in values.to_pylist())
    else:
        yield from (value.as_buffer() or b"" for value in values)


def _check_comparable(name: str, data_type: pa.DataType) -> None:
    value_type = data_type.value_type if pa.types.is_dictionary(data_type) else data_type
    tests = (pt.is_integer, pt.is_boolean, pt.is_string, pt.is_large_string, pt.is_binary, pt.is_large_binary)
    if not any(test(value_type) for test in (*tests, pt.is_fixed_size_binary)):
        raise SchemaError(f"{name} is {data_type}; only words, whole numbers, truth values and bytes are hashed")
