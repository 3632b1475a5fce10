"""Finding files: folders, globs and URLs, streamed in a stable order, however many there are."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from lakehouse._messages import clean
from lakehouse.errors import InvalidArgumentError, NotFoundError, StorageError
from lakehouse.location import fsspec_options
from lakehouse.sources.places import Entry, Found, Local, Place, Remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Listing", "Pattern", "listing"]

logger = logging.getLogger("lakehouse")

_MAX_COUNTED = 200_000  # names looked at for a total: 0.2 s on a local disk, minutes on a network's

Parts = tuple[str, ...]  # a path below the root of a pattern


@dataclass(frozen=True)
class Pattern:
    """A place to look in and which files to take.

    Parameters
    ----------
    text
        As the user gave it, for messages.
    place
        The file system.
    root
        The file, or the folder below which is looked.
    segments
        The rest of a glob, cut at slashes; ``None`` for a folder, of which files with `extensions` are taken, and
        empty for a file.
    extensions
        Lower case, with their dot.
    """

    text: str
    place: Place = field(repr=False, compare=False)
    root: str
    segments: Parts | None
    extensions: frozenset[str]

    def takes(self, parts: Parts) -> bool:
        """Tell whether a file is wanted."""
        if self.segments is None:
            return not _hidden(parts[-1]) and self.is_medium(parts[-1])
        return _matches(parts, self.segments)

    def enters(self, parts: Parts) -> bool:
        """Tell whether a folder can hold a wanted file."""
        return not _hidden(parts[-1]) if self.segments is None else _leads(parts, self.segments)

    def is_medium(self, name: str) -> bool:
        """Tell whether a name has one of the extensions."""
        return os.path.splitext(name)[1].lower() in self.extensions  # noqa: PTH122 - a million names


def parse(
    text: str, extensions: frozenset[str], storage_options: Mapping[str, Any], places: dict[str, Place]
) -> Pattern:
    """Read what a user typed: a file, a folder, a glob or a URL.

    Raises
    ------
    InvalidArgumentError
        It is a chain of URLs.
    """
    if is_remote := _is_remote(text):
        place, path = _remote(text, storage_options, places)
    else:
        place, path = Local(), _absolute(text)
    magic = "" if text.startswith(("http://", "https://")) else "*?["  # an address of the web has queries
    if not any(c in magic for c in path) or (not is_remote and os.path.lexists(path)):
        is_folder = text.endswith("/") or place.kind(path) == "folder"
        return Pattern(text, place, path, None if is_folder else (), extensions)
    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if any(c in magic for c in part))
    return Pattern(text, place, "/".join(parts[:first]) or "/", tuple(parts[first:]), extensions)


def _is_remote(text: str) -> bool:
    return "://" in text and not text.startswith("file://")


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text.removeprefix("file://")))  # noqa: PTH100, PTH111 - `**` stays


def _remote(url: str, storage_options: Mapping[str, Any], places: dict[str, Place]) -> tuple[Place, str]:
    import fsspec

    if "::" in url:
        raise InvalidArgumentError(f"{url!r} chains URLs; unpack the archive and give the folder")
    try:
        fs, path = fsspec.core.url_to_fs(url, **fsspec_options(storage_options))
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"cannot open {clean(url)}: {clean(str(error))}") from error
    scheme = url.partition("://")[0]
    if scheme not in places:
        places[scheme] = Remote(fs)
    return places[scheme], path.rstrip("/") or "/"


def _hidden(name: str) -> bool:
    return name.startswith(".")


def _fits(name: str, segment: str) -> bool:
    """One name against one segment, as in a shell: a wildcard does not match a leading dot."""
    return fnmatchcase(name, segment) and (segment[0] == "." or not _hidden(name))


def _matches(parts: Parts, segments: Parts) -> bool:
    if not segments:
        return not parts
    if segments[0] != "**":
        return bool(parts) and _fits(parts[0], segments[0]) and _matches(parts[1:], segments[1:])
    rest = segments[1:] or ("*",)  # `photos/**` is all files below
    if _matches(parts, rest):
        return True
    return bool(parts) and not _hidden(parts[0]) and _matches(parts[1:], segments)


def _leads(parts: Parts, segments: Parts) -> bool:
    """Whether a path below these parts can match."""
    if not segments:
        return False
    if segments[0] == "**":
        return not any(map(_hidden, parts)) or _leads(parts, segments[1:])
    return not parts or (_fits(parts[0], segments[0]) and len(segments) > 1 and _leads(parts[1:], segments[1:]))


class _Hit(NamedTuple):
    path: str
    entry: Entry
    problem: Exception | None = None


def _walk(pattern: Pattern, passed_over: Counter[str]) -> Iterator[_Hit]:
    """Yield wanted files folder by folder: in each by name, then its folders; linked folders come last, each once.

    A link that leads back to a folder above would be endless; a folder that is met again by another name is left out.
    """
    pending: list[Parts] = [()]
    linked: deque[Parts] = deque()
    seen: set[object] = set()
    place = pattern.place
    while pending or linked:
        parts = pending.pop() if pending else linked.popleft()
        folder = "/".join((pattern.root.rstrip("/"), *parts)) or "/"
        try:
            identity = place.identity(folder)
            entries = place.entries(folder) if identity not in seen else iter(())
        except StorageError:  # the connection, not the folder
            raise
        except OSError as error:
            yield _Hit(folder, Entry(parts[-1] if parts else "", is_folder=True), problem=error)
            continue
        seen.add(identity)
        below: list[Parts] = []
        for entry in entries:
            path, inside = f"{folder.rstrip('/')}/{entry.name}", (*parts, entry.name)
            if entry.is_folder and pattern.enters(inside):
                (linked if entry.is_link else below).append(inside)
            if not pattern.takes(inside):
                passed_over[os.path.splitext(entry.name)[1].lower()] += not entry.is_folder  # noqa: PTH122 - as above
            elif not entry.is_folder or pattern.is_medium(entry.name):
                yield _Hit(path, entry)
        pending.extend(reversed(below))


@dataclass(frozen=True)
class Listing:
    """Files to be read.

    Parameters
    ----------
    patterns
        Files, folders, globs and URLs; looked at one after the other, so that a million paths are only strings.
    extensions
        Files that are taken from a folder: lower case, with their dot.
    storage_options
        As `connect` takes them, or as the file system of fsspec does.
    """

    patterns: tuple[str, ...]
    extensions: frozenset[str]
    storage_options: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def names(self) -> list[str]:
        """The patterns in a form that does not depend on the working directory."""
        return [text if _is_remote(text) else _absolute(text) for text in self.patterns]

    def found(self) -> Iterator[Found]:
        """Yield the files in a stable order, each once, with what went wrong in listing them.

        Raises
        ------
        NotFoundError
            There is no file at all.
        StorageError
            A folder that was asked for cannot be listed.
        """
        passed_over: Counter[str] = Counter()
        seen: set[str] | None = set() if len(self.patterns) > 1 else None
        is_empty = True
        for pattern in self._parsed():
            for file in _files(pattern, passed_over):
                if seen is not None:
                    if file.uri in seen:
                        continue
                    seen.add(file.uri)
                is_empty = False
                yield file
        self._tell(passed_over, is_empty=is_empty)

    def count(self) -> int | None:
        """Return the number of files if that is quick to find out: few, and on this machine."""
        if any(map(_is_remote, self.patterns)):
            return None
        files, looked_at = 0, Counter[str]()
        for pattern in self._parsed():
            for _ in _walk(pattern, looked_at) if pattern.segments != () else [None]:
                files += 1
                if files + looked_at.total() > _MAX_COUNTED:
                    return None
        return files

    def _parsed(self) -> Iterator[Pattern]:
        places: dict[str, Place] = {}
        for text in self.patterns:
            yield parse(text, self.extensions, self.storage_options, places)

    def _tell(self, passed_over: Counter[str], *, is_empty: bool) -> None:
        kinds = ", ".join(f"{n:,} {ext or 'without extension'}" for ext, n in passed_over.most_common(5) if n)
        if is_empty:
            others = f" (there are others: {kinds})" if kinds else ""
            asked, read = clean(", ".join(self.patterns[:3])), " ".join(sorted(self.extensions))
            raise NotFoundError(f"no file found in {asked}{others}; of a folder those with {read} are read")
        if kinds:
            logger.info("passed over %s", kinds)


def _files(pattern: Pattern, passed_over: Counter[str]) -> Iterator[Found]:
    place = pattern.place
    if pattern.segments == ():
        yield place.found(pattern.root)
        return
    for path, entry, problem in _walk(pattern, passed_over):
        if problem is None:
            yield place.found(path, entry)
        elif path == pattern.root:
            kind = NotFoundError if isinstance(problem, FileNotFoundError) else StorageError
            raise kind(f"cannot list {place.uri(path)}: {problem}") from problem
        else:
            yield Found(place, place.uri(path), path, problem=problem)


def listing(
    patterns: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    extensions: Iterable[str],
    storage_options: Mapping[str, Any] | None = None,
) -> Listing:
    """Make a listing from what a user types; a single path that is not there is refused at once.

    Raises
    ------
    NotFoundError
        There is no such file or folder.
    InvalidArgumentError
        No path was given, or one that is empty.
    """
    is_one = isinstance(patterns, str | os.PathLike)
    each = [patterns] if isinstance(patterns, str | os.PathLike) else patterns
    given = tuple(os.fspath(path) for path in each)
    if not all(given) or not given:
        raise InvalidArgumentError("a path is empty; give folders, globs such as 'photos/**/*.jpg', or URLs")
    wanted, options = frozenset(extensions), dict(storage_options or {})
    if is_one:
        pattern = parse(given[0], wanted, options, {})
        if not pattern.segments and pattern.place.kind(pattern.root) is None:
            raise NotFoundError(f"there is no file or folder {clean(given[0])!r}")
    return Listing(given, wanted, options)
