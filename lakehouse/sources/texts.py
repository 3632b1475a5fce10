"""Texts from files."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Any, Literal

from lakehouse import types
from lakehouse.errors import DataError, InvalidArgumentError
from lakehouse.sources.files import Files, files
from lakehouse.sources.listing import listing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from mmap import mmap

__all__ = ["read_texts"]

_EXTENSIONS = (".txt", ".text", ".md", ".markdown", ".rst")
_CELLS = (
    types.field("text", "text", doc="the whole text"),
    types.field("num_chars", "int64", doc="length in Unicode code points"),
)


def read_texts(
    pattern: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    label_from: Literal["folder"] | None = None,
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    encoding: str = "utf-8",
) -> Files:
    """Read texts from files, one row each: a source for `add` and `create_table`.

    Which files are taken and what is a bad row: as in `read_images`. A byte order mark is dropped, line ends are kept.

    Parameters
    ----------
    pattern
        A folder, a file, a glob (``**`` is any depth), a URL that fsspec knows, or several of these.
    label_from
        ``"folder"``: a column `label` with the name of the folder each file is in.
    columns
        Only these of ``id, text, num_chars, label, source_uri, content_sha256, ingested_at``; ``None`` is all. `id` is
        the SHA-256 of the text in UTF-8, `content_sha256` that of the file.
    storage_options
        Credentials and endpoints for a URL, named as for `connect` or as fsspec names them.
    encoding
        What the files are in; one that is not is a bad row.

    Raises
    ------
    NotFoundError
        There is no such file or folder; when read, that nothing matched.
    InvalidArgumentError
        An unknown column, `label_from` or encoding.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import lakehouse as lh
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.txt")
    >>> _ = path.write_text("Grüße", encoding="latin-1")
    >>> source = lh.read_texts(path, encoding="latin-1", columns=["text", "num_chars"])
    >>> next(source.chunks()).batch.to_pylist()
    [{'text': 'Grüße', 'num_chars': 5}]
    """
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # refuses codecs that are no text encodings, too
    except LookupError as error:
        raise InvalidArgumentError(f"unknown encoding {encoding!r}; try 'utf-8', 'latin-1', 'cp1252'") from error

    def look(data: bytes | mmap) -> dict[str, Any]:
        try:
            text = str(data, encoding).removeprefix("\ufeff")
            as_utf8 = text.encode()
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else error
            at = f" at byte {error.start:,}" if isinstance(error, UnicodeDecodeError) else ""
            raise DataError(f"not {encoding}: {reason}{at}; give the encoding, as in encoding='latin-1'") from error
        return {"id": hashlib.sha256(as_utf8).hexdigest(), "text": as_utf8, "num_chars": len(text)}

    found = listing(pattern, _EXTENSIONS, storage_options)
    return files("texts", found, _CELLS, look, label_from=label_from, columns=columns, options={"encoding": encoding})
