"""What a loader asks of a table, and what is read for it: worked out by rank 0 and followed by all others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lakehouse.features.records.rowids import RowIds, union
from lakehouse.loader.forms.columns import ROW_ID, Form
from lakehouse.loader.rows.choice import Choice, select
from lakehouse.loader.rows.draws import digest_of
from lakehouse.loader.rows.needs import Needs
from lakehouse.loader.rows.readiness import doubted, made_ready
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.loader.forms.columns import Column
    from lakehouse.loader.options import LoaderOptions, OnMissing
    from lakehouse.loader.rows.draws import Draws
    from lakehouse.loader.rows.readiness import Readiness
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.snapshot import Snapshot
    from lakehouse.where import Where

__all__ = ["Asked", "Chosen"]


@dataclass(frozen=True, eq=False)
class Chosen:
    """A version and the rows of it.

    Parameters
    ----------
    snapshot
        The version.
    selection
        The rows.
    draws
        How often each comes; None means once.
    without
        Rows left out because nobody vouches for a feature of theirs.
    readiness
        What was found of the features that are needed; None if none are.
    """

    snapshot: Snapshot
    selection: Selection
    draws: Draws | None = None
    without: RowIds = field(default=RowIds())
    readiness: Readiness | None = None

    @property
    def digest(self) -> str:
        """A hash of the rows and of how often each comes."""
        return self.selection.digest if self.draws is None else digest_of(self.draws, self.selection.digest)


@dataclass(frozen=True)
class Asked:
    """What is asked, of whatever version will be read.

    Parameters
    ----------
    columns
        What is read of a row.
    not_null
        Columns whose NULLs leave a row out, where such rows are skipped.
    where
        Which rows.
    on_missing
        What becomes of rows that miss something.
    weights, balance
        See `Choice`.
    selection
        The rows, if they were chosen before and saved.
    progress
        Of filling, see `lakehouse.progress.track`.
    remember
        Whether what is read of the table's log may be kept beside the table.
    """

    columns: tuple[str, ...]
    not_null: tuple[str, ...]
    where: Where | None
    on_missing: OnMissing
    weights: str | None = None
    balance: str | None = None
    selection: Selection | None = None
    progress: bool | None = None
    remember: bool = False

    @classmethod
    def of(cls, columns: Sequence[Column], options: LoaderOptions) -> Asked:
        """Ask for columns by the options of a loader."""
        # Pictures are not asked for NULLs: Lance reads all their bytes to find them (321 MB of 321 MB, 14.0.2).
        numbers = [c.name for c in columns if c.form not in (Form.VALUES, Form.IMAGES, Form.CLIPS) and c.name != ROW_ID]
        names = [column.name for column in columns if column.name != ROW_ID]
        if options.packing is not None and options.packing.lengths is not None:
            names.append(options.packing.lengths)
        return cls(tuple(names), tuple(numbers), options.where, options.on_missing, options.weights, options.balance)

    def lead(self, snapshot: Snapshot) -> Chosen:
        """Refuse, count or fill what is missing, and select."""
        if self.selection is not None:
            return self.follow(snapshot)
        needs = self._needs(snapshot)
        snapshot, readiness = made_ready(
            snapshot, needs, self.on_missing, progress=self.progress, remember=self.remember
        )
        without = union(doubted(snapshot, needs).values()) if readiness.num_unready else RowIds()
        return replace(self.follow(snapshot, without), readiness=readiness if needs.features else None)

    def follow(self, snapshot: Snapshot, without: RowIds = RowIds()) -> Chosen:  # noqa: B008 - it is immutable
        """Select of a version that was found ready, less some rows."""
        if self.selection is not None:
            return Chosen(snapshot, self.selection)
        return Chosen(snapshot, *select(snapshot, self._choice(snapshot, without)), without)

    def again(self, snapshot: Snapshot, digest: str) -> Chosen:
        """Select the rows with this digest, if they can be found.

        Whom nobody vouched for is in the log of the table, and a clean-up may have taken the log; the stamps are there.
        """
        found = self.follow(snapshot)
        if found.digest == digest or self.on_missing != "skip":
            return found
        return self.follow(snapshot, union(doubted(snapshot, self._needs(snapshot)).values()))

    def _needs(self, snapshot: Snapshot) -> Needs:
        return Needs.of(snapshot, (*self.columns, *filter(None, (self.weights, self.balance))), self.where)

    def _choice(self, snapshot: Snapshot, without: RowIds) -> Choice:
        needs = self._needs(snapshot)
        tests = [] if needs.where is None else [needs.where]
        if self.on_missing == "skip":
            names = dict.fromkeys((*self.not_null, *filter(None, (self.weights, self.balance))))
            tests += [f"{quoted(name)} IS NOT NULL" for name in names if snapshot.schema.field(name).nullable]
            tests += needs.ready
        return Choice(" AND ".join(tests) or None, without, self.weights, self.balance)
