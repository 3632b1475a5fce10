"""Tokens of many documents as sequences of one length: put end to end in the order of the epoch, then cut.

Nothing is carried from one batch to the next. The number of tokens of every document is known up front, so prefix sums
along the order of an epoch tell which documents a sequence is cut from, on any rank and after any resume.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from lakehouse.errors import DataError, InvalidArgumentError, SchemaError
from lakehouse.loader.forms.columns import Column, Form, has_nulls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

__all__ = ["DOCUMENTS", "Documents", "Packing"]

DOCUMENTS, POSITIONS, CUTS = "document_ids", "position_ids", "cu_seqlens"
_EVERY = 256  # documents between two sums that are kept: 8 bytes for so many, and so many to look through
_SUMMED = 1 << 16


@dataclass(frozen=True)
class Packing:
    """Sequences of tokens, cut from documents that are put end to end.

    A batch has, under the column's name, int64 of shape ``(batch_size, sequence_length)``, and beside it
    ``document_ids``, the row id each token comes from, ``position_ids``, counted from where its document begins in the
    sequence, and ``cu_seqlens``: for each sequence int32, where its documents begin, and its length at the end. The
    tokens behind the last whole sequence of an epoch, fewer than `sequence_length`, are left out of it.

    Parameters
    ----------
    column
        Lists of integers; text is turned into them by a feature column.
    sequence_length
        Tokens of a sequence.
    lengths
        A column with the exact number of tokens of each row. Without one all tokens are read once, when the loader is
        first made on a machine, to count them.

    Raises
    ------
    InvalidArgumentError
        `sequence_length` is no whole number of 1 or more, or the column has a name of what stands beside it.

    Examples
    --------
    >>> import lakehouse as lh
    >>> rows = [{"tokens": [1, 2, 3]}, {"tokens": [4]}, {"tokens": [5, 6, 7]}]
    >>> table = lh.connect(folder).create_table("texts", data=rows)
    >>> loader = table.loader(packing=lh.Packing("tokens", sequence_length=3), batch_size=2, shuffle=False)
    >>> batch = next(iter(loader))
    >>> batch["tokens"].tolist(), batch["document_ids"].tolist(), batch["position_ids"].tolist()
    ([[1, 2, 3], [4, 5, 6]], [[0, 0, 0], [1, 2, 2]], [[0, 1, 2], [0, 0, 1]])
    """

    column: str
    sequence_length: int
    lengths: str | None = None

    def __post_init__(self) -> None:
        value = self.sequence_length
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidArgumentError(f"sequence_length is {value!r}; it is a whole number of tokens, 1 or more")
        if self.column in (DOCUMENTS, POSITIONS, CUTS):
            raise InvalidArgumentError(f"a batch has {self.column!r} beside the tokens; give the column another name")

    def __str__(self) -> str:
        return f"{self.column}:{self.sequence_length}"

    def column_of(self, field: pa.Field) -> Column:
        """Decide how the column is read.

        Raises
        ------
        SchemaError
            It holds no lists of integers.
        """
        if not (_is_list(field.type) and pat.is_integer(field.type.value_type)):
            hint = "add its tokens as a feature, t.add_columns({'tokens': udf})" if pat.is_string(field.type) else ""
            raise SchemaError(
                f"column {field.name!r} is {field.type}, and tokens are packed from lists of integers; "
                f"{hint or 'name a column of such'}"
            )
        return Column(field.name, Form.RAGGED)

    def counts(self, cells: pa.Array, row_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """Give the number of tokens of each row, from the tokens or from the column of lengths.

        Raises
        ------
        DataError
            A NULL, or a length that is none.
        """
        if cells.null_count:
            missing = row_ids[int(np.argmax(np.asarray(cells.is_null())))]
            raise DataError(
                f"column {self.lengths or self.column!r} is NULL in row id {missing}, which cannot be packed; leave "
                "such rows out with on_missing='skip' or where=…"
            )
        counts = np.asarray(cells if self.lengths else cells.value_lengths(), np.int64)
        if len(counts) and not 0 <= counts.min() <= counts.max() < 1 << 32:
            raise DataError(f"column {self.lengths or self.column!r} has lengths from {counts.min()} to {counts.max()}")
        return counts.astype(np.uint32)


@dataclass(frozen=True, eq=False)
class _Cut:
    """Where sequences lie in their documents.

    Parameters
    ----------
    ranks, lengths
        Of the documents, those of each run of sequences in order, and their tokens; int64, shape ``(num_documents,)``.
    pieces
        For each run its tokens in the documents put end to end: the first one, and how many.
    """

    ranks: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    pieces: list[tuple[int, int]]


class Documents:
    """The documents of one epoch in their order, end to end.

    Parameters
    ----------
    packing
        How they are cut.
    counts
        Tokens of each row by its rank in the selection; uint32, shape ``(num_rows,)``.
    rows
        The rank of the row at each position of the epoch's order.
    """

    def __init__(
        self,
        packing: Packing,
        counts: npt.NDArray[np.uint32],
        rows: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
    ) -> None:
        self._packing = packing
        self._counts = counts
        self._rows = rows
        self._before = self._sums()
        self._cuts: dict[int, _Cut] = {}  # of batches that are being read, by their first sequence
        self.num_sequences = int(self._before[-1]) // packing.sequence_length

    def _sums(self) -> npt.NDArray[np.int64]:
        sums = [np.zeros(1, np.int64)]
        for start in range(0, len(self._counts), _SUMMED):
            lengths = self._lengths(np.arange(start, min(start + _SUMMED, len(self._counts))))
            ends = np.cumsum(np.add.reduceat(lengths, np.arange(0, len(lengths), _EVERY)))
            sums.append(sums[-1][-1] + ends)
        return np.concatenate(sums)

    def _lengths(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._counts[self._rows(positions)].astype(np.int64)

    def ranks(self, batches: Sequence[npt.NDArray[np.int64]]) -> list[npt.NDArray[np.int64]]:
        """Give the ranks of the documents that each batch of sequences is cut from.

        Parameters
        ----------
        batches
            Sequences, int64, shape ``(n,)``; past the end they start again.
        """
        cuts = self._all_cuts(batches)
        self._cuts.update({int(batch[0]): cut for batch, cut in zip(batches, cuts, strict=True)})
        return [cut.ranks for cut in cuts]

    def _all_cuts(self, batches: Sequence[npt.NDArray[np.int64]]) -> list[_Cut]:
        length = self._packing.sequence_length
        runs = [self._runs(batch) for batch in batches]
        flat = np.array([run for each in runs for run in each], np.int64).reshape(-1, 2)
        start, skipped = self._at(flat[:, 0] * length)
        last, _ = self._at(flat.sum(axis=1) * length - 1)
        num = last - start + 1
        positions = np.repeat(start - np.cumsum(num) + num, num) + np.arange(num.sum())
        ranks = self._rows(positions)
        lengths = self._counts[ranks].astype(np.int64)
        tokens_before = np.concatenate([[0], np.cumsum(lengths)])
        cuts, run, document = [], 0, 0
        for each in runs:
            first, pieces = document, []
            for _, num_sequences in each:
                at = int(tokens_before[document] - tokens_before[first] + skipped[run])
                pieces.append((at, num_sequences * length))
                document, run = document + int(num[run]), run + 1
            cuts.append(_Cut(ranks[first:document], lengths[first:document], pieces))
        return cuts

    def _runs(self, sequences: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
        """Give sequences that follow each other as the first one, and how many."""
        inside = sequences % max(self.num_sequences, 1)
        parts = np.split(inside, np.flatnonzero(np.diff(inside) != 1) + 1)
        return [(int(part[0]), len(part)) for part in parts if len(part)]

    def _at(self, tokens: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Give the position of the document each token is of, and how many of its tokens stand before."""
        block = np.searchsorted(self._before, tokens, side="right") - 1
        blocks, which = np.unique(block, return_inverse=True)
        positions = blocks[:, None] * _EVERY + np.arange(_EVERY)
        lengths = self._lengths(np.minimum(positions, len(self._counts) - 1).ravel()).reshape(-1, _EVERY)
        ends = (self._before[blocks][:, None] + np.cumsum(lengths, axis=1))[which]
        within = (ends <= tokens[:, None]).sum(axis=1)
        begins = np.where(within > 0, ends[np.arange(len(tokens)), within - 1], self._before[block])
        return block * _EVERY + within, tokens - begins

    def cells(
        self,
        data: pa.Array,
        index: npt.NDArray[np.int64],
        row_ids: npt.NDArray[np.uint64],
        sequences: npt.NDArray[np.int64],
    ) -> dict[str, Any]:
        """Cut sequences out of their documents.

        Parameters
        ----------
        data
            The column as read.
        index
            Where the documents of `ranks` stand in it.
        row_ids
            The row id of each row of `data`.
        sequences
            One of the batches given to `ranks`.

        Raises
        ------
        DataError
            A NULL among the tokens, or another number of them than was said.
        """
        cut = self._cuts.pop(int(sequences[0]), None) or self._all_cuts([sequences])[0]
        rows, ids = data.take(pa.array(index)), row_ids[index].astype(np.int64)
        self._check(rows, cut, ids)
        tokens = np.asarray(rows.flatten())
        of_document = np.repeat(np.arange(len(ids)), cut.lengths)
        kept = [slice(at, at + num) for at, num in cut.pieces]
        tokens, of_document = (np.concatenate([each[piece] for piece in kept]) for each in (tokens, of_document))
        begins = np.diff(of_document, prepend=-1) != 0
        begins[:: self._packing.sequence_length] = True
        return self._arrays(tokens.astype(np.int64), ids[of_document], begins)

    def _arrays(
        self, tokens: npt.NDArray[np.int64], ids: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_]
    ) -> dict[str, Any]:
        length = self._packing.sequence_length
        places = np.arange(len(tokens))
        since = np.maximum.accumulate(np.where(begins, places, 0))
        cuts = [np.append(np.flatnonzero(row), length).astype(np.int32) for row in begins.reshape(-1, length)]
        return {
            self._packing.column: tokens.reshape(-1, length),
            DOCUMENTS: ids.reshape(-1, length),
            POSITIONS: (places - since).reshape(-1, length),
            CUTS: cuts,
        }

    def _check(self, rows: pa.Array, cut: _Cut, ids: npt.NDArray[np.int64]) -> None:
        column, lengths = self._packing.column, np.asarray(rows.value_lengths(), np.int64)
        wrong = np.flatnonzero(lengths != cut.lengths)
        if len(wrong):
            raise DataError(
                f"row id {ids[wrong[0]]} has {lengths[wrong[0]]} tokens in {column!r}, and its "
                f"{self._packing.lengths or 'length'!r} says {cut.lengths[wrong[0]]}; pack without lengths=, or mend "
                "them"
            )
        if has_nulls(rows):
            first = next(i for i in range(len(rows)) if has_nulls(rows[i : i + 1]))
            raise DataError(f"column {column!r} holds a NULL among the tokens of row id {ids[first]}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """What `cells` gives."""
        packed = (self._packing.column, DOCUMENTS, POSITIONS)
        return (*(Column(name, Form.NUMBERS) for name in packed), Column(CUTS, Form.RAGGED))


def _is_list(data_type: pa.DataType) -> bool:
    return bool(pat.is_list(data_type) or pat.is_large_list(data_type) or pat.is_fixed_size_list(data_type))
