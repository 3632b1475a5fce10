"""What was trained on: version, rows, columns as they were made, and order, kept under a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.errors import (
    InvalidArgumentError,
    NotFoundError,
    VersionNotFoundError,
)
from lakehouse.loader.loader import Loader
from lakehouse.loader.options import LoaderOptions
from lakehouse.loader.rows.choice import all_row_ids, made_by
from lakehouse.loader.rows.selection import Selection
from lakehouse.schema.lineage import owner_of
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.loader.rows.arrayfiles import ArrayFile
    from lakehouse.location import Location
    from lakehouse.reads import RowIds
    from lakehouse.snapshot import Snapshot

__all__ = ["Changes", "Generation", "SavedSelection", "generations"]

_FROZEN = ("columns", "where", "on_missing")


@dataclass(frozen=True)
class Generation:
    """How a feature column was made when it was trained on.

    Parameters
    ----------
    column
        Its name.
    generation
        Counts the declarations of its function.
    code_hash
        Of the function.
    token
        Of the column: another one of the same name has another.
    """

    column: str
    generation: int
    code_hash: str
    token: str


@dataclass(frozen=True)
class Changes:
    """What became of a saved selection in the newest version of its table.

    Parameters
    ----------
    version
        The newest version.
    num_rows_deleted
        Selected rows that are no more.
    columns_gone, columns_remade
        Columns that are no more under their name, and features that are made by another function or were declared anew.
    """

    version: int
    num_rows_deleted: int
    columns_gone: tuple[str, ...]
    columns_remade: tuple[str, ...]

    def __str__(self) -> str:
        told = [f"{self.num_rows_deleted:,} rows deleted"] if self.num_rows_deleted else []
        told += [f"no {name!r} any more" for name in self.columns_gone]
        told += [f"{name!r} made anew" for name in self.columns_remade]
        return f"up to version {self.version}: {', '.join(told) or 'nothing changed'}"


@dataclass(frozen=True)
class SavedSelection:
    """Rows and columns of one version of a table, and their order, under a name.

    Parameters
    ----------
    name
        Of the selection.
    table, version
        What it is of.
    num_rows, digest
        How many rows, and a hash of them.
    where, on_missing
        How they were chosen.
    columns
        What is read of them.
    features
        How those of them that are computed were made.
    shuffle, seed
        Their order.
    saved_by, saved_at
        Who saved it and when, as ISO 8601 in UTC.
    transaction
        What made the version: another table under the same name has other ones.

    Examples
    --------
    >>> lake = lh.connect(folder)
    >>> table = lake.create_table("pets", data=[{"x": i} for i in range(8)])
    >>> _ = table.save_selection("train-a", where="x > 3", seed=1)
    >>> _ = table.update(values={"x": 0})
    >>> selection = lake.open_selection("train-a")
    >>> selection.num_rows, sorted(int(x) for batch in selection.loader(batch_size=2) for x in batch["x"])
    (4, [4, 5, 6, 7])
    """

    name: str
    table: str
    version: int
    num_rows: int
    digest: str
    where: str | None
    on_missing: str
    columns: tuple[str, ...]
    features: tuple[Generation, ...]
    shuffle: str
    seed: int
    saved_by: str
    saved_at: str
    transaction: str | None = field(repr=False)
    _lake: Location = field(repr=False)
    _file: ArrayFile = field(repr=False, compare=False)
    _read_only: bool = field(repr=False)

    def row_ids(self) -> RowIds:
        """Return the ids of the rows in table order; uint64, shape ``(num_rows,)``."""
        return self._selection.row_ids(np.arange(self.num_rows))

    def loader(self, **options: Any) -> Loader:
        """Stream the batches that a loader gave when this was saved.

        Parameters
        ----------
        **options
            Of `LoaderOptions`, but for what is frozen: `columns`, `where` and `on_missing`. `shuffle` and `seed` are
            those that were saved unless they are given.

        Raises
        ------
        InvalidArgumentError
            An option that is frozen.
        VersionNotFoundError
            The version is gone, or the table is another one.
        """
        for name in options:
            if name in _FROZEN:
                raise InvalidArgumentError(
                    f"{name} of the selection {self.name!r} is frozen ({getattr(self, name)!r}); for another choose "
                    f"from the table at its version: lake.open_table({self.table!r}, version={self.version}).loader(…)"
                )
        frozen: dict[str, Any] = {name: getattr(self, name) for name in _FROZEN}
        made = LoaderOptions.of(**{"shuffle": self.shuffle, "seed": self.seed, **options}, **frozen)
        is_drawn = made.weights is not None or made.balance is not None
        selection = None if is_drawn else self._selection  # what is drawn is found by the same filter again
        return Loader(self.snapshot(), made, pin=not self._read_only, selection=selection)

    def snapshot(self) -> Snapshot:
        """Open the version.

        Raises
        ------
        VersionNotFoundError
            The version is gone, or the table is another one.
        """
        try:
            found = open_snapshot(self._lake, self.table, self.version)
        except NotFoundError as error:
            raise VersionNotFoundError(f"the selection {self.name!r} is of what is gone: {error}") from error
        if made_by(found) != self.transaction:
            raise VersionNotFoundError(
                f"the selection {self.name!r} is of a table {self.table!r} that was dropped; the one that is there now "
                "was made later"
            )
        return found

    def changes(self) -> Changes:
        """Compare with the newest version of the table.

        Raises
        ------
        UnsupportedTableError
            The table was made without stable row ids, so rows cannot be found again.
        """
        newest = open_snapshot(self._lake, self.table)
        newest.check_writable()
        there = np.zeros(max((int(ids.max()) + 1 for ids in self._selection.pieces()), default=0), np.bool_)
        for ids in all_row_ids(newest):
            there[slice(ids.start, ids.stop) if isinstance(ids, range) else ids[ids < len(there)]] = True
        kept = sum(int(there[ids].sum()) for ids in self._selection.pieces())
        now = generations(newest, self.columns)
        return Changes(
            newest.version,
            self.num_rows - kept,
            tuple(name for name in self.columns if name not in newest.schema.names),
            tuple(was.column for was in self.features if was.column in newest.schema.names and was not in now),
        )

    @cached_property
    def _selection(self) -> Selection:
        return Selection.of_file(self._file)


def generations(snapshot: Snapshot, columns: Sequence[str]) -> tuple[Generation, ...]:
    """Return how those of some columns are made that are features."""
    made = ((name, owner_of(snapshot.features, name)) for name in columns if name in snapshot.schema.names)
    return tuple(Generation(name, f.generation, f.code_hash, f.token) for name, f in made if f is not None)
