"""The kinds of index: option records with LanceDB's names that check themselves, and what Lance calls them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import pyarrow as pa
from pyarrow import types as pt

from lakehouse.errors import InvalidArgumentError, closest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FTS",
    "KINDS",
    "BTree",
    "Bitmap",
    "DistanceType",
    "Family",
    "IndexOptions",
    "IvfFlat",
    "IvfPq",
    "LabelList",
    "distances_of",
    "family_of",
    "index_on",
    "is_vector",
    "kind_of",
    "of_column",
    "user_indexes",
]

DistanceType: TypeAlias = Literal["l2", "cosine", "dot", "hamming"]
Family: TypeAlias = Literal["vector", "scalar", "text"]


@dataclass(frozen=True, kw_only=True)
class IvfPq:
    """Vectors in partitions, compressed by product quantization: for tables whose vectors do not fit in memory.

    Parameters
    ----------
    num_partitions
        Clusters the vectors are divided into; ``None`` means one for about every 8,192 rows.
    num_sub_vectors
        Bytes a vector is compressed to (half of them with ``num_bits=4``); must divide its dimension. ``None``
        means the largest divisor that leaves 8 or more numbers a sub-vector.
    distance_type
        ``"l2"``, ``"cosine"`` or ``"dot"``.
    num_bits
        8 or 4.

    Examples
    --------
    >>> from lakehouse.index_kinds import IvfPq
    >>> IvfPq(num_partitions=256, distance_type="cosine").distance_type
    'cosine'
    """

    num_partitions: int | None = None
    num_sub_vectors: int | None = None
    distance_type: DistanceType = "l2"
    num_bits: Literal[4, 8] = 8

    def __post_init__(self) -> None:
        _check_positive(num_partitions=self.num_partitions, num_sub_vectors=self.num_sub_vectors)
        if self.distance_type not in ("l2", "cosine", "dot"):
            raise InvalidArgumentError(f"IvfPq measures by l2, cosine or dot, not {self.distance_type!r}")
        if self.num_bits not in (4, 8):
            raise InvalidArgumentError(f"num_bits is 4 or 8, not {self.num_bits!r}")


@dataclass(frozen=True, kw_only=True)
class IvfFlat:
    """Vectors in partitions as they are: exact within the partitions searched, and for ``uint8`` vectors.

    Parameters
    ----------
    num_partitions
        Clusters the vectors are divided into; ``None`` means one for about every 4,096 rows.
    distance_type
        ``"l2"``, ``"cosine"``, ``"dot"``; ``"hamming"`` for ``vector<uint8>``.

    Examples
    --------
    >>> from lakehouse.index_kinds import IvfFlat
    >>> IvfFlat(distance_type="hamming")
    IvfFlat(num_partitions=None, distance_type='hamming')
    """

    num_partitions: int | None = None
    distance_type: DistanceType = "l2"

    def __post_init__(self) -> None:
        _check_positive(num_partitions=self.num_partitions)
        if self.distance_type not in get_args(DistanceType):
            raise InvalidArgumentError(f"IvfFlat measures by l2, cosine, dot or hamming, not {self.distance_type!r}")


@dataclass(frozen=True)
class BTree:
    """Values in order: for keys, numbers and times, with ``=``, ``<``, ``BETWEEN`` and ``IN``.

    Examples
    --------
    >>> from lakehouse.index_kinds import BTree
    >>> BTree()
    BTree()
    """


@dataclass(frozen=True)
class Bitmap:
    """The rows of each value: for columns of few different values.

    Examples
    --------
    >>> from lakehouse.index_kinds import Bitmap
    >>> Bitmap()
    Bitmap()
    """


@dataclass(frozen=True)
class LabelList:
    """The rows of each item of lists, for ``array_has(tags, 'cat')``.

    Examples
    --------
    >>> from lakehouse.index_kinds import LabelList
    >>> LabelList()
    LabelList()
    """


@dataclass(frozen=True, kw_only=True)
class FTS:
    """Words of a text, ranked by BM25.

    Parameters
    ----------
    base_tokenizer
        ``"simple"`` (at spaces and punctuation), ``"whitespace"``, ``"raw"`` (the whole text is one word),
        ``"ngram"``, ``"icu"`` (languages without spaces).
    language
        Of stemming and stop words.
    lower_case, stem, remove_stop_words, ascii_folding
        What is done to words before they are compared.

    Examples
    --------
    >>> from lakehouse.index_kinds import FTS
    >>> FTS(stem=False).stem
    False
    """

    base_tokenizer: Literal["simple", "whitespace", "raw", "ngram", "icu"] = "simple"
    language: str = "English"
    lower_case: bool = True
    stem: bool = True
    remove_stop_words: bool = True
    ascii_folding: bool = True

    def __post_init__(self) -> None:
        known = ("simple", "whitespace", "raw", "ngram", "icu")
        if self.base_tokenizer not in known:
            wrong = f"no tokenizer {self.base_tokenizer!r}{closest(self.base_tokenizer, known)}"
            raise InvalidArgumentError(f"{wrong}; there are {', '.join(known)}")


IndexOptions: TypeAlias = IvfPq | IvfFlat | BTree | Bitmap | LabelList | FTS


def _check_positive(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise InvalidArgumentError(f"{name} is 1 or more, not {value}")


KINDS: dict[type, str] = {
    IvfPq: "IVF_PQ",
    IvfFlat: "IVF_FLAT",
    BTree: "BTREE",
    Bitmap: "BITMAP",
    LabelList: "LABEL_LIST",
    FTS: "FTS",
}
_LANCE_KINDS = {"BTree": "BTREE", "Bitmap": "BITMAP", "LabelList": "LABEL_LIST", "Inverted": "FTS"}


def index_on(dataset: Any, column: str, family: Family) -> Any | None:
    """Return Lance's description of the index that a search of `column` uses, or ``None``."""
    return next((index for index in of_column(dataset, column) if family_of(kind_of(index)) == family), None)


def is_vector(field: pa.Field) -> bool:
    """Tell whether a column can be searched by distance."""
    if not pt.is_fixed_size_list(field.type):
        return False
    return bool(pt.is_floating(field.type.value_type) or pt.is_uint8(field.type.value_type))


def distances_of(field: pa.Field) -> tuple[DistanceType, ...]:
    """Return how the vectors of a column can be measured, the default first."""
    # Lance 14 has no other distance for bytes, and this one for nothing else.
    return ("hamming",) if pt.is_uint8(field.type.value_type) else ("l2", "cosine", "dot")


def user_indexes(dataset: Any) -> Iterator[Any]:
    """Yield Lance's descriptions of the indexes that belong to a column, not those it keeps for itself."""
    return (index for index in dataset.describe_indices() if index.field_names)


def of_column(dataset: Any, column: str) -> list[Any]:
    """Return Lance's descriptions of the indexes of one column."""
    return [index for index in user_indexes(dataset) if index.field_names[0] == column]


def kind_of(index: Any) -> str:
    """Return the kind of an index in the words of `KINDS`."""
    return _LANCE_KINDS.get(index.index_type, str(index.index_type))


def family_of(kind: str) -> Family:
    """Return what an index of a kind is for; a column can have one of each family."""
    if kind.upper().startswith(("IVF", "HNSW", "VECTOR")):
        return "vector"
    return "text" if kind == "FTS" else "scalar"
