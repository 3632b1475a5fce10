import glob
import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse.data import Source
from lakehouse.errors import DataError, InvalidArgumentError, NotFoundError, StorageError
from lakehouse.sources import files
from lakehouse.sources.listing import listing
from tests.broken_files import WAYS, break_file
from tests.media_files import picture, video

TINY = picture("PNG", width_px=3, height_px=2)


def rows(source, done=frozenset()):
    return [row for chunk in source.chunks(done) for row in chunk.batch.to_pylist()]


def failures(source):
    return [failure for chunk in source.chunks() for failure in chunk.failures]


def items(source, done=frozenset()):
    return [item for chunk in source.chunks(done) for item in chunk.items]


def fill(folder, names, data=TINY):
    for name in names:
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run(code, argument):
    """Run code in a process of its own and return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code), argument]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- listing


NAMES = st.sampled_from(["a", "b", "c.jpg", "d.png", "e.txt", ".h.jpg", ".g", "[x].jpg", "ü.JPG"])
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12)
GLOBS = st.lists(st.sampled_from(["*", "**", "*.jpg", "a", "?", "[ab]", "c.*", ".*", "*.JPG"]), min_size=1, max_size=3)


def grown(tree, folder):
    for name in tree:
        try:
            fill(folder, [name])
        except (NotADirectoryError, FileExistsError, IsADirectoryError):  # `a` is a file and a folder of the tree
            continue


@given(TREES, GLOBS)
@settings(max_examples=120, deadline=None)
def test_a_glob_finds_the_files_that_pythons_glob_finds(tree, segments):
    with tempfile.TemporaryDirectory() as folder:
        grown(tree, folder)
        pattern = "/".join([glob.escape(folder), *segments])
        found = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
        pattern = "/".join([folder, *segments])
        try:
            assert [f.path for f in listing(pattern, [".jpg"]).found() if f.problem is None] == sorted(
                {os.path.normpath(path) for path in found}, key=_files_before_folders(folder)
            )
        except NotFoundError:
            assert found == []


def _files_before_folders(root):
    def key(path):
        parts = Path(path).relative_to(root).parts
        return [(n < len(parts) - 1, part) for n, part in enumerate(parts)]

    return key


@given(TREES)
@settings(max_examples=60, deadline=None)
def test_a_folder_gives_each_picture_below_it_once_in_a_stable_order(tree):
    with tempfile.TemporaryDirectory() as folder:
        grown(tree, folder)
        wanted = [
            path
            for path in Path(folder).rglob("*")
            if path.is_file()
            and path.suffix.lower() in {".jpg", ".png"}
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ]
        files_ = listing(folder, [".jpg", ".png"])
        try:
            found = [f.path for f in files_.found() if f.problem is None]
        except NotFoundError:
            found = []
        assert found == sorted(map(str, wanted), key=_files_before_folders(folder))
        assert files_.count() >= len(found)


def test_symbolic_links_in_a_circle_end(tmp_path):
    fill(tmp_path, ["x/1.png", "x/y/2.png"])
    (tmp_path / "x/y/up").symlink_to(tmp_path / "x")
    (tmp_path / "x/here").symlink_to(".")
    (tmp_path / "a").symlink_to(tmp_path / "x")
    assert [f.path for f in listing(tmp_path, [".png"]).found()] == [
        str(tmp_path / "x/1.png"),
        str(tmp_path / "x/y/2.png"),
    ]


def test_a_linked_folder_is_listed_under_the_name_of_the_link(tmp_path):
    fill(tmp_path, ["else/1.png", "in/2.png"])
    (tmp_path / "in/linked").symlink_to(tmp_path / "else")
    assert [row["label"] for row in rows(lh.read_images(tmp_path / "in", label_from="folder"))] == ["in", "linked"]


def test_several_patterns_give_each_file_once(tmp_path):
    fill(tmp_path, ["a/1.png", "b/2.png", "b/3.png"])
    source = lh.read_images([tmp_path / "b/3.png", tmp_path, f"{tmp_path}/*/2.png"])
    assert [Path(row["source_uri"]).name for row in rows(source)] == ["3.png", "1.png", "2.png"]
    assert source.count() == 5  # a total for the progress bar: files that several patterns name count again


def test_a_home_folder_and_a_file_url_are_paths(tmp_path, monkeypatch):
    fill(tmp_path, ["pets/1.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    fingerprints = set()
    for pattern in ("~/pets", f"file://{tmp_path}/pets", "pets", "./pets/", str(tmp_path / "pets")):
        source = lh.read_images(pattern)
        assert [row["source_uri"] for row in rows(source)] == [str(tmp_path / "pets/1.png")]
        fingerprints.add(source.fingerprint)
    assert len(fingerprints) == 1


def test_a_name_that_looks_like_a_glob_is_a_name_if_it_is_there(tmp_path):
    fill(tmp_path, ["[1]/a[2].png"])
    assert len(rows(lh.read_images(tmp_path / "[1]"))) == 1
    assert len(rows(lh.read_images(tmp_path / "[1]" / "a[2].png"))) == 1


def test_a_name_that_is_not_utf8_is_stored_escaped(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.png"), "wb") as file:
        file.write(TINY)
    assert rows(lh.read_images(tmp_path))[0]["source_uri"] == f"{tmp_path}/\\xff.png"


@pytest.mark.parametrize("pattern", ["nothing", "nothing.png", "file://nothing"])
def test_a_path_that_is_not_there_is_refused_at_once(pattern, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError, match="nothing"):
        lh.read_images(pattern)


def test_a_listing_without_a_file_says_what_is_there(tmp_path):
    fill(tmp_path, ["a.txt", "b.txt", "c.tiff"])
    with pytest.raises(NotFoundError, match=r"2 \.txt, 1 \.tiff.*\.jpg .*are read"):
        rows(lh.read_images(tmp_path))
    with pytest.raises(NotFoundError, match=r"no file found in .*\*\.png"):
        rows(lh.read_images(f"{tmp_path}/*.png"))
    with pytest.raises(NotFoundError, match="cannot list"):
        rows(lh.read_images(f"{tmp_path}/nowhere/*.png"))


def test_files_that_are_passed_over_are_counted_in_the_log(tmp_path, caplog):
    fill(tmp_path, ["a.png", "b.txt", "c.txt", "Makefile"])
    with caplog.at_level(logging.INFO, "lakehouse"):
        rows(lh.read_images(tmp_path))
    assert caplog.messages == ["passed over 2 .txt, 1 without extension"]


@pytest.mark.parametrize("patterns", ["", [], ["a", ""]])
def test_an_empty_path_is_refused(patterns):
    with pytest.raises(InvalidArgumentError, match="a path is empty"):
        lh.read_images(patterns)


def test_a_glob_attempts_whatever_it_matches_a_folder_only_what_is_called_a_picture(tmp_path):
    fill(tmp_path, ["a.png", "b.dat"])
    (tmp_path / "c.txt").write_text("text")
    assert len(rows(lh.read_images(tmp_path))) == 1
    assert len(rows(lh.read_images(f"{tmp_path}/*"))) == 2
    assert [Path(f.source).name for f in failures(lh.read_images(f"{tmp_path}/*"))] == ["c.txt"]


# --- rows


def test_a_picture_becomes_a_row_of_the_family_images(tmp_path):
    data = picture("JPEG", width_px=50, height_px=20)
    fill(tmp_path, ["cats/a.jpeg"], data)
    source = lh.read_images(tmp_path, label_from="folder")
    (row,) = rows(source)
    assert row.pop("ingested_at").tzinfo is not None
    sha256 = hashlib.sha256(data).hexdigest()
    assert row == {
        "id": sha256,
        "image": data,
        "width": 50,
        "height": 20,
        "format": "JPEG",
        "orientation": 1,
        "label": "cats",
        "source_uri": str(tmp_path / "cats/a.jpeg"),
        "content_sha256": sha256,
    }
    assert types.key_of(source.schema) == "id"
    assert types.media_kind(source.schema.field("image")) == "image"


def test_a_video_becomes_a_row_of_the_family_videos(tmp_path):
    data = video(num_frames=50)
    fill(tmp_path, ["a.mp4"], data)
    source = lh.read_videos(tmp_path)
    (row,) = rows(source)
    kept = {name: row[name] for name in ("video", "width", "height", "duration_s", "fps", "codec", "num_frames")}
    assert kept == {
        "video": data,
        "width": 64,
        "height": 48,
        "duration_s": 2.0,
        "fps": 25.0,
        "codec": "h264",
        "num_frames": 50,
    }
    assert types.is_blob(source.schema.field("video"))


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=1),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=50, deadline=None)
def test_a_text_is_read_in_the_encoding_given_with_or_without_byte_order_mark(text, encoding):
    with tempfile.TemporaryDirectory() as folder:
        fill(folder, ["a.txt"], text.encode(encoding))
        (row,) = rows(lh.read_texts(folder, encoding=encoding.removesuffix("-sig")))
        assert (row["text"], row["num_chars"]) == (text, len(text))
        assert row["id"] == hashlib.sha256(text.encode()).hexdigest()
        assert row["content_sha256"] == hashlib.sha256(text.encode(encoding)).hexdigest()


@pytest.mark.parametrize(
    ("make", "family"), [(lh.read_images, "images"), (lh.read_videos, "videos"), (lh.read_texts, "documents")]
)
def test_every_source_fits_its_family(make, family, tmp_path):
    fill(tmp_path, ["a.png", "a.mp4", "a.txt"])
    there = lh.Schema.from_toml(Path(__file__).parent.parent / "schemas" / f"{family}.toml").to_arrow()
    source = make(tmp_path, label_from="folder")
    assert isinstance(source, Source)
    for field in source.schema:
        assert field.type == there.field(field.name).type
        assert types.media_kind(field) == types.media_kind(there.field(field.name))


def test_only_the_columns_asked_for_come(tmp_path):
    fill(tmp_path, ["a.png"])
    assert rows(lh.read_images(tmp_path, columns=["format", "width"])) == [{"width": 3, "format": "PNG"}]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": ["widht"]}, "no column 'widht'.*did you mean 'width'"),
        ({"columns": ["label"]}, "no column 'label'"),
        ({"label_from": "name"}, "choose 'folder' or None"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options, says, tmp_path):
    with pytest.raises(InvalidArgumentError, match=says):
        lh.read_images(tmp_path, **options)


@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_an_unknown_encoding_is_refused(encoding, tmp_path):
    with pytest.raises(InvalidArgumentError, match=f"unknown encoding '{encoding}'"):
        lh.read_texts(tmp_path, encoding=encoding)


# --- broken files


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_a_broken_picture_is_a_failure_with_its_path_and_the_rest_is_read(way, kind, tmp_path):
    good = picture(kind, width_px=80, height_px=60)
    fill(tmp_path, ["1.jpg", "3.jpg"], good)
    broken = break_file(tmp_path / "2.jpg", way, good)
    source = lh.read_images(tmp_path)
    chunks = list(source.chunks())
    assert [row["source_uri"] for chunk in chunks for row in chunk.batch.to_pylist()] == [
        f"{tmp_path}/1.jpg",
        f"{tmp_path}/3.jpg",
    ]
    (failure,) = (failure for chunk in chunks for failure in chunk.failures)
    assert failure.source == str(broken)
    assert failure.error
    assert len(failure.message) > 5
    assert sum(len(chunk.items) for chunk in chunks) == 3


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"bomb"}))
@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi"])
def test_a_broken_video_is_a_failure_with_its_path(way, kind, tmp_path):
    good = video(kind)
    fill(tmp_path, ["1.mp4"], good)
    broken = break_file(tmp_path / "2.mp4", way, good)
    source = lh.read_videos(tmp_path)
    assert len(rows(source)) == 1
    assert [failure.source for failure in failures(source)] == [str(broken)]


@pytest.mark.parametrize("way", ["zero_byte", "dangling_symlink", "folder_with_the_name_of_a_file", "unreadable"])
def test_a_broken_text_is_a_failure_with_its_path(way, tmp_path):
    fill(tmp_path, ["1.txt"], b"good")
    broken = break_file(tmp_path / "2.txt", way, b"good")
    assert [failure.source for failure in failures(lh.read_texts(tmp_path))] == [str(broken)]


def test_a_text_in_another_encoding_says_where_and_what_to_do(tmp_path):
    fill(tmp_path, ["1.txt"], "Grüße".encode("latin-1"))
    (failure,) = failures(lh.read_texts(tmp_path))
    assert (failure.error, failure.message) == (
        "DataError",
        "not utf-8: invalid start byte at byte 2; give the encoding, as in encoding='latin-1'",
    )


def test_the_bytes_decide_what_a_file_is(tmp_path):
    fill(tmp_path, ["a.jpg"], picture("PNG"))
    assert rows(lh.read_images(tmp_path))[0]["format"] == "PNG"


def test_the_limit_of_pixels_is_the_callers(tmp_path):
    fill(tmp_path, ["a.png"])
    (failure,) = failures(lh.read_images(tmp_path, max_pixels=5))
    assert "the limit is max_pixels=5" in failure.message


def test_a_pipe_does_not_hang_the_reader(tmp_path):
    fill(tmp_path, ["a.png"])
    os.mkfifo(tmp_path / "b.png")
    (failure,) = failures(lh.read_images(tmp_path))
    assert failure.message == "a pipe, socket or device, not a file"


class AfterListing:
    """An empty `done` that does something to the first file when it was listed and is not yet read."""

    def __init__(self, action):
        self.actions = [action]

    def __contains__(self, key):
        if self.actions:
            self.actions.pop()()
        return False


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda path: path.unlink(), "FileNotFoundError", "vanished"),
        (lambda path: path.write_bytes(TINY + b"more"), "DataError", "changed between listing and reading"),
        (lambda path: path.write_bytes(TINY[:-1]), "DataError", "changed between listing and reading"),
        (lambda path: os.utime(path, (1, 1)), "DataError", "changed between listing and reading"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "DataError", "changed between listing and reading"),
        (lambda path: (path.unlink(), path.mkdir()), "DataError", "changed between listing and reading"),
        (lambda path: shutil.rmtree(path.parent), "FileNotFoundError", "vanished"),
    ],
)
def test_a_file_that_vanishes_or_changes_after_it_was_listed_is_a_failure(change, error, says, tmp_path):
    fill(tmp_path, ["a/a.png", "b/b.png"])
    (chunk,) = lh.read_images(tmp_path).chunks(AfterListing(lambda: change(tmp_path / "a" / "a.png")))
    assert [(Path(f.source).name, f.error) for f in chunk.failures] == [("a.png", error)]
    assert says in chunk.failures[0].message
    assert chunk.batch["source_uri"].to_pylist() == [str(tmp_path / "b/b.png")]


def test_a_path_named_that_is_gone_is_a_failure_among_others(tmp_path):
    fill(tmp_path, ["a.png"])
    source = lh.read_images([tmp_path / "gone.png", tmp_path / "a.png"])
    assert [failure.source for failure in failures(source)] == [str(tmp_path / "gone.png")]
    assert len(rows(source)) == 1


@contextmanager
def as_nobody():
    """Give up the rights of root, for whom every file is readable."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_what_may_not_be_read_is_a_failure_files_and_folders():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        fill(folder, ["a.png", "b.png", "locked/c.png"])
        os.chmod(Path(folder, "b.png"), 0)
        os.chmod(Path(folder, "locked"), 0)
        with as_nobody():
            (chunk,) = lh.read_images(folder).chunks()
        assert [(f.source, f.error) for f in chunk.failures] == [
            (f"{folder}/b.png", "PermissionError"),
            (f"{folder}/locked", "PermissionError"),
        ]
        assert chunk.batch.num_rows == 1
        assert len(chunk.items) == 3
        os.chmod(Path(folder, "locked"), 0o700)


def test_a_file_too_large_for_a_cell_is_a_failure_and_not_read(tmp_path):
    with open(tmp_path / "a.mp4", "wb") as file:
        file.truncate((2 << 30) + 1)  # sparse
    (failure,) = failures(lh.read_videos(tmp_path))
    assert failure.error == "ResourceLimitError"
    assert "2,147,483,649 bytes" in failure.message


def test_a_fault_that_is_not_the_files_own_stops_the_reading(tmp_path):
    fill(tmp_path, ["1.png"])
    code = """
        import os, resource, sys, lakehouse as lh

        class NoDescriptorsLeft:
            def __contains__(self, key):
                resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
                return False

        source = lh.read_images(sys.argv[1])
        next(source.chunks())
        try:
            list(source.chunks(NoDescriptorsLeft()))
        except lh.errors.StorageError as error:
            print(error)
    """
    assert "1.png: Too many open files" in run(code, tmp_path)


# --- resuming, batches, memory


@given(st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_leaving_out_what_is_done_leaves_exactly_the_rest(n, broken):
    with tempfile.TemporaryDirectory() as folder:
        fill(folder, [f"{i}.png" for i in range(9)])
        Path(folder, f"{broken}.png").write_bytes(b"")
        source = lh.read_images(folder)
        everything = items(source)
        assert len(set(everything)) == len(everything) >= 9
        assert items(source, frozenset(everything[:n])) == everything[n:]
        assert len(rows(source, frozenset(everything[:n]))) + len(rows(source, frozenset(everything[n:]))) == len(
            rows(source)
        )


def test_what_is_done_is_not_opened(tmp_path):
    fill(tmp_path, ["a.png", "b.png"])
    source = lh.read_images(tmp_path)
    done = frozenset(items(source))
    key_b = next(key for key in done if "b.png" in key)
    (tmp_path / "a.png").chmod(0)
    os.utime(tmp_path / "b.png", (1, 1))
    (chunk,) = source.chunks(done)
    assert [row["source_uri"] for row in chunk.batch.to_pylist()] == [
        str(tmp_path / "b.png")
    ]  # a changed file is another item
    assert chunk.items[0] != key_b


def test_the_fingerprint_names_the_options_and_no_credential(tmp_path):
    fill(tmp_path, ["a.png", "a.txt"])
    sources = [
        lh.read_images(tmp_path),
        lh.read_images(f"{tmp_path}/*"),
        lh.read_images(tmp_path, max_pixels=10),
        lh.read_images(tmp_path, label_from="folder"),
        lh.read_images(tmp_path, columns=["id"]),
        lh.read_texts(tmp_path),
        lh.read_texts(tmp_path, encoding="latin-1"),
        lh.read_parquet(_parquet(tmp_path / "a.parquet")),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
    assert lh.read_images(tmp_path, storage_options={"secret": "hunter2"}).fingerprint == sources[0].fingerprint
    assert "hunter2" not in repr(lh.read_images(tmp_path, storage_options={"secret": "hunter2"}))
    fill(tmp_path, ["b.png"])
    assert lh.read_images(tmp_path).fingerprint == sources[0].fingerprint


def test_batches_are_bounded_in_bytes_and_hold_at_least_one_file(tmp_path):
    rng = random.Random(0)
    sizes = [rng.choice([1, 2_000_000, 5_000_000, 10_000_000]) for _ in range(14)]
    for n, size in enumerate(sizes):
        fill(tmp_path, [f"{n:02}.png"], TINY + bytes(size))
    chunks = list(lh.read_images(tmp_path).chunks())
    assert [Path(row["source_uri"]).name for chunk in chunks for row in chunk.batch.to_pylist()] == [
        f"{n:02}.png" for n in range(14)
    ]
    for chunk in chunks:
        assert chunk.batch.num_rows == len(chunk.items)
        assert chunk.batch.num_rows == 1 or chunk.batch["image"].nbytes <= files.BATCH_NBYTES + 1000


def test_reading_ahead_is_bounded_and_ends_with_the_reader(tmp_path):
    for n in range(30):
        fill(tmp_path, [f"{n:02}.png"], TINY + bytes(4_000_000))
    code = """
        import sys, threading, lakehouse as lh
        chunks = lh.read_images(sys.argv[1]).chunks()
        next(chunks)
        chunks.close()
        print(threading.active_count())
    """
    assert run(code, tmp_path) == "1\n"


def test_memory_stays_bounded_over_many_times_its_size(tmp_path):
    data = TINY + bytes(5_000_000)
    fill(tmp_path, ["0000.png"], data)
    for n in range(1, 200):
        os.link(tmp_path / "0000.png", tmp_path / f"{n:04}.png")
    code = """
        import resource, sys, lakehouse as lh
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        source = lh.read_images(sys.argv[1])
        list(lh.read_images(sys.argv[1] + "/0000.png").chunks())
        before, nbytes = peak(), 0
        for chunk in source.chunks():
            nbytes += chunk.batch.nbytes
        print(nbytes, peak() - before)
    """
    nbytes, grown_mb = map(int, run(code, tmp_path).split())
    assert nbytes > 1_000_000_000
    assert grown_mb < 150


# --- other places


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def test_a_url_is_listed_and_read_like_a_folder(memory):
    for name in ("a/1.png", "a/2.txt", "b/c/3.png", "b/.hidden.png", "4.png"):
        memory.pipe(f"/pets/{name}", TINY)
    for pattern in ("memory://pets", "memory://pets/", "memory://pets/**/*.png"):
        source = lh.read_images(pattern, label_from="folder")
        assert [(row["source_uri"], row["label"]) for row in rows(source)] == [
            ("memory:///pets/4.png", "pets"),
            ("memory:///pets/a/1.png", "a"),
            ("memory:///pets/b/c/3.png", "c"),
        ]
        assert source.count() is None
        assert rows(source, frozenset(items(source))) == []
    assert len(rows(lh.read_images("memory://pets/a/1.png"))) == 1


def test_an_object_that_changes_is_another_item_and_one_that_vanishes_a_failure(memory):
    memory.pipe("/pets/1.png", TINY)
    source = lh.read_images("memory://pets")
    before = items(source)
    memory.pipe("/pets/1.png", TINY)
    assert items(source) != before
    (chunk,) = source.chunks(AfterListing(lambda: memory.rm("/pets/1.png")))
    assert [failure.error for failure in chunk.failures] == ["FileNotFoundError"]


def test_a_url_that_leads_nowhere_is_refused(memory):
    with pytest.raises(NotFoundError, match="memory://nowhere"):
        lh.read_images("memory://nowhere")
    with pytest.raises(StorageError, match="nonsense"):
        lh.read_images("nonsense://x")
    with pytest.raises(InvalidArgumentError, match="chains URLs"):
        lh.read_images("zip://a.png::memory://b.zip")


def test_a_connection_that_breaks_stops_the_reading(memory, monkeypatch):
    memory.pipe("/pets/1.png", TINY)
    source = lh.read_images("memory://pets")

    def gone(*args, **kwargs):
        raise TimeoutError("no answer from secret_key=hunter2")

    monkeypatch.setattr(type(memory), "cat_file", gone)
    with pytest.raises(StorageError, match="reading memory:///pets/1.png: no answer") as caught:
        rows(source)
    assert "hunter2" not in str(caught.value)


# --- Parquet


def _parquet(path, num_rows=1000, row_group_size=300, **columns):
    columns = columns or {"x": range(num_rows), "name": [f"n{i}" for i in range(num_rows)]}
    pq.write_table(
        pa.table({name: pa.array(list(values)) for name, values in columns.items()}),
        path,
        row_group_size=row_group_size,
    )
    return path


def test_parquet_gives_its_rows_in_order(tmp_path):
    for n in range(3):
        _parquet(tmp_path / f"{n}.parquet", x=range(1000 * n, 1000 * n + 1000))
    source = lh.read_parquet(tmp_path)
    assert [row["x"] for row in rows(source)] == list(range(3000))
    assert isinstance(source, Source)


@given(st.integers(0, 8))
@settings(max_examples=9, deadline=None)
def test_parquet_leaves_out_exactly_the_batches_that_are_done(n):
    with tempfile.TemporaryDirectory() as folder:
        for i in range(2):
            _parquet(Path(folder, f"{i}.parquet"))
        source = lh.read_parquet(folder)
        everything = items(source)
        assert len(set(everything)) == 8
        first, rest = frozenset(everything[:n]), frozenset(everything[n:])
        assert rows(source, rest) + rows(source, first) == rows(source)


def test_parquet_batches_are_bounded_in_bytes(tmp_path):
    blobs = [np.random.default_rng(n).bytes(1_000_000) for n in range(50)]
    source = lh.read_parquet(_parquet(tmp_path / "a.parquet", row_group_size=50, x=range(50), blob=blobs))
    sizes = [chunk.batch.num_rows for chunk in source.chunks()]
    assert sum(sizes) == 50
    assert max(sizes) <= 9
    assert [chunk.batch.num_rows for chunk in lh.read_parquet(tmp_path, columns=["x"]).chunks()] == [50]


def test_parquet_files_that_are_broken_or_of_another_make_are_failures(tmp_path):
    _parquet(tmp_path / "1.parquet")
    (tmp_path / "2.parquet").write_bytes(b"PAR1 not really PAR1")
    _parquet(tmp_path / "3.parquet", x=[1])
    _parquet(tmp_path / "4.parquet", x=[1], name=["a"], z=[2])
    _parquet(tmp_path / "5.parquet", x=["a"], name=["a"])
    (tmp_path / "6.parquet").write_bytes(b"")
    _parquet(tmp_path / "7.parquet", num_rows=10)
    source = lh.read_parquet(tmp_path)
    assert [Path(f.source.split(" row")[0]).name[0] for f in failures(source)] == list("23456")
    assert len(rows(source)) == 1010
    assert rows(source, frozenset(items(source))) == []
    assert len(rows(lh.read_parquet(tmp_path, columns=["x"]))) == 1012  # further columns do not matter then


def test_a_damaged_page_costs_its_row_group(tmp_path):
    path = _parquet(tmp_path / "a.parquet", num_rows=3000, row_group_size=1000)
    at = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data = bytearray(path.read_bytes())
    data[at : at + 60] = bytes(60)
    path.write_bytes(data)
    source = lh.read_parquet(path)
    assert [row["x"] for row in rows(source)] == [*range(1000), *range(2000, 3000)]
    (failure,) = failures(source)
    assert "row group 1" in failure.source
    assert rows(source, frozenset(items(source))) == []


def test_parquet_takes_the_columns_asked_for_in_their_order(tmp_path):
    _parquet(tmp_path / "a.parquet", num_rows=2)
    assert lh.read_parquet(tmp_path, columns=["name", "x"]).schema.names == ["name", "x"]
    assert rows(lh.read_parquet(tmp_path, columns=["name", "x"]))[1] == {"name": "n1", "x": 1}
    with pytest.raises(InvalidArgumentError, match="no column 'nam'.*did you mean 'name'"):
        lh.read_parquet(tmp_path, columns=["nam"])


def test_a_folder_without_readable_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="none of the files is readable Parquet"):
        lh.read_parquet(tmp_path)


def test_parquet_of_a_url_is_read(memory, tmp_path):
    memory.pipe("/x/a.parquet", _parquet(tmp_path / "a.parquet").read_bytes())
    assert len(rows(lh.read_parquet("memory://x/*.parquet"))) == 1000


def test_metadata_of_media_survives_parquet(tmp_path):
    schema = pa.schema([types.field("image", "image")])
    pq.write_table(pa.table({"image": pa.array([TINY], pa.large_binary())}, schema=schema), tmp_path / "a.parquet")
    assert types.media_kind(lh.read_parquet(tmp_path).schema.field("image")) == "image"
