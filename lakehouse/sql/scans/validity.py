"""Whether a media column holds NULLs, told without reading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lakehouse import types
from lakehouse._lance import lance
from lakehouse.errors import translated

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

__all__ = ["may_be_null"]

_known: WeakKeyDictionary[Snapshot, dict[str, bool]] = WeakKeyDictionary()


def may_be_null(snapshot: Snapshot, column: str) -> bool:
    """Whether a media column may hold a NULL; False is certain.

    To find the NULLs of inline media, Lance 14 reads all their bytes (321 MB of 321 MB). The footers of the files say
    of each page whether it has any.
    """
    if types.is_blob(snapshot.schema.field(column)):
        return True  # the descriptors say where, and are small
    known = _known.setdefault(snapshot, {})
    if column not in known:
        known[column] = not _is_whole(snapshot, snapshot.field_ids[column])
    return known[column]


def _is_whole(snapshot: Snapshot, field_id: int) -> bool:
    for fragment in snapshot.dataset.get_fragments():
        files = [file for file in fragment.metadata.files if field_id in file.fields]
        if not files or any(file.base_id is not None or not file.column_indices for file in files):
            return False  # not filled yet; lying elsewhere, as what a branch has from the main line; of legacy format
        if not all(_has_all(snapshot, file, field_id) for file in files):
            return False
    return True


def _has_all(snapshot: Snapshot, file: Any, field_id: int) -> bool:
    options = dict(snapshot.lake.storage_options) or None
    with translated(f"reading the footer of {file.path}"):
        footer = lance.file.LanceFileReader(f"{snapshot.uri}/data/{file.path}", storage_options=options).metadata()
    pages = footer.columns[file.column_indices[file.fields.index(field_id)]].pages
    # Lance 14's own words; should they change, the column is read, which is right as well.
    return all("RepdefAllValidItem" in str(page.encoding) for page in pages)
