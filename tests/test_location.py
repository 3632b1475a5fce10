import http.server
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lakehouse.errors import StorageError
from lakehouse.location import Location, fsspec_options


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return Location.of(tmp_path / "a" if request.param == "local" else f"memory://{tmp_path.name}/a")


def test_what_is_written_is_read(folder):
    folder.write_bytes("x/y", b"one")
    folder.write_bytes("x/y", b"two")
    assert folder.read_bytes("x/y") == b"two"
    assert folder.child("x").read_bytes("y") == b"two"
    assert folder.exists("x/y")
    assert folder.exists("x")
    assert (folder.listdir("x"), folder.listdir()) == (["y"], ["x"])
    assert folder.nbytes() == 3


def test_what_is_not_there_is_empty_or_a_missing_file(folder):
    assert folder.listdir("none") == []
    assert folder.nbytes("none") == 0
    assert not folder.exists("none")
    folder.delete("none")
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("none")


def test_delete_removes_files_and_folders(folder):
    for name in ("a", "b/c", "b/d/e"):
        folder.write_bytes(name, b"")
    folder.delete("a")
    folder.delete("b")
    assert folder.listdir() == []


def test_of_many_threads_that_put_one_wins(folder):
    for round_number in range(20):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(lambda n, r=round_number: folder.put_if_absent(f"x{r}", bytes([n])), range(8)))
        assert won.count(True) == 1
        assert folder.read_bytes(f"x{round_number}") == bytes([won.index(True)])


def _put(uri, barrier, results, n):
    folder = Location.of(uri)
    for name in range(20):
        barrier.wait()
        results[8 * name + n] = folder.put_if_absent(str(name), bytes([n]))


def test_of_many_processes_that_put_one_wins(tmp_path):
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(8), context.Array("b", 8 * 20)
    processes = [context.Process(target=_put, args=(str(tmp_path), barrier, results, n)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [sum(results[8 * name : 8 * name + 8]) for name in range(20)] == [1] * 20
    for name in range(20):
        assert (tmp_path / str(name)).read_bytes() == bytes([list(results[8 * name : 8 * name + 8]).index(1)])


def test_a_file_is_never_half_written(tmp_path, monkeypatch):
    folder = Location.of(tmp_path)
    folder.write_bytes("x", b"old")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StorageError, match="No space left"):
        folder.write_bytes("x", b"new")
    assert folder.read_bytes("x") == b"old"
    assert folder.listdir() == ["x"]


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="writing .*file/x"):
        Location.of(tmp_path / "file").write_bytes("x", b"")


class _Refusing(http.server.BaseHTTPRequestHandler):
    """An S3 that has every name already."""

    def do_PUT(self):
        assert self.headers["If-None-Match"] == "*"
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<Error><Code>PreconditionFailed</Code><Message>taken</Message></Error>"
        self.send_response(412)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_name_taken_on_s3_is_no_error():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = {
            "aws_access_key_id": "a",
            "aws_secret_access_key": "b",
            "aws_endpoint": f"http://127.0.0.1:{server.server_port}",
            "aws_region": "us-east-1",
        }
        assert Location.of("s3://bucket/lake", options).put_if_absent("x", b"") is False
        server.shutdown()


@given(st.dictionaries(st.text("abc_", min_size=1).map("own_{}".format), st.text(max_size=5)))
def test_options_nobody_knows_are_passed_on(options):
    assert fsspec_options(options) == options


def test_what_users_type_becomes_one_spelling(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Location.of("a/b/").uri == str(tmp_path / "a" / "b")
    assert Location.of(f"file://{tmp_path}").uri == str(tmp_path)
    assert Location.of("s3://bucket/x/").uri == "s3://bucket/x"
    assert "secret" not in repr(Location.of("s3://b", {"aws_secret_access_key": "secret"}))
