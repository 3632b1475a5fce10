"""Every error of Lance, DuckDB and fsspec that a user can meet, provoked for real: an upgrade that rewords one fails here."""

import datetime as dt
import os
import pickle
import tempfile
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import errors
from lakehouse._lance import lance
from lakehouse._messages import Outcome, brief, classify, clean
from lakehouse.errors import translated

ASKED = "doing the thing"
NUM_ROWS = 100


@pytest.fixture
def dataset(tmp_path):
    return write(tmp_path / "t.lance")


def write(path):
    table = pa.table(
        {
            "id": pa.array(range(NUM_ROWS), pa.int64()),
            "text": [f"x{i}" for i in range(NUM_ROWS)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array([1.0] * NUM_ROWS * 8, pa.float32()), 8),
        }
    )
    return lance.write_dataset(
        table, str(path), max_rows_per_file=50, enable_stable_row_ids=True, data_storage_version="2.2"
    )


def raised(provoke):
    """Return what comes through the seam, checked for what must never be shown."""
    with pytest.raises(errors.LakehouseError) as caught, translated(ASKED):
        provoke()
    shown = "".join(traceback.format_exception(caught.value))
    foreign = shown.partition("The above exception was the direct cause")[0]
    message = str(caught.value)
    for text in (message, str(caught.value.__cause__)):
        assert ".rs:" not in text
        assert "SECRET" not in text
    assert "SECRET" not in foreign.replace("SECRET-IN-SOURCE", "")
    assert "LanceError(" not in message
    assert "unwrap()" not in message
    assert "Traceback" not in message
    assert len(message) < 1000
    return caught.value


# --- Lance: what the caller got wrong


@pytest.mark.parametrize(
    "predicate",
    [
        "id >",
        "idd > 3",
        "id > 'abc'",
        "text = 'open",
        "foo(id) > 3",
        "id + 1",
        "count(id) > 1",
        "id in (select 1)",
        "regexp_match(text, '(')",
        "id / 0 = 1",
        "cast(text as int) = 1",
    ],
)
def test_a_bad_predicate_is_a_filter_error(dataset, predicate):
    error = raised(lambda: dataset.to_table(filter=predicate))
    assert type(error) is errors.FilterError
    assert str(error).startswith(ASKED)


@pytest.mark.parametrize("call", [lambda d: d.count_rows("idd > 3"), lambda d: d.delete("idd > 3")])
def test_a_bad_predicate_is_a_filter_error_where_lance_says_oserror(dataset, call):
    error = raised(lambda: call(dataset))
    assert type(error) is errors.FilterError
    assert "idd" in str(error)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.update({"nope": "1"}),
        lambda d: d.drop_columns(["nope"]),
        lambda d: d.alter_columns({"path": "nope", "name": "x"}),
        lambda d: d.create_scalar_index("nope", "BTREE"),
        lambda d: d.to_table(nearest={"column": "nope", "q": [1.0] * 8, "k": 3}),
        lambda d: d.merge_insert("nope").when_not_matched_insert_all().execute(pa.table({"id": [1]})),
    ],
    ids=["update", "drop", "rename", "index", "search", "merge"],
)
def test_an_unknown_column_is_not_found(dataset, call):
    error = raised(lambda: call(dataset))
    assert type(error) is errors.ColumnNotFoundError
    assert isinstance(error, LookupError)
    assert "nope" in str(error)


def test_a_rust_panic_over_an_unknown_column_is_column_not_found(dataset):
    error = raised(lambda: dataset.take([0], columns=["nope"]))
    assert type(error) is errors.ColumnNotFoundError
    assert not isinstance(error.__cause__, Exception)  # a BaseException that a plain handler would miss


def test_a_row_that_is_not_there_is_not_found(dataset):
    assert type(raised(lambda: dataset.take([10 * NUM_ROWS]))) is errors.RowNotFoundError


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.checkout_version(99),
        lambda d: lance.dataset(d.uri, version=99),
        lambda d: d.checkout_version("nope"),
        lambda d: lance.dataset(d.uri, version="nope"),
        lambda d: d.checkout_version(("nope", None)),
        lambda d: d.tags.delete("nope"),
        lambda d: d.tags.create("t", 99),
    ],
    ids=["checkout", "open", "checkout-tag", "open-tag", "branch", "untag", "tag"],
)
def test_a_missing_version_tag_or_branch_is_not_found(dataset, call):
    assert type(raised(lambda: call(dataset))) is errors.VersionNotFoundError


def test_a_version_that_was_cleaned_up_is_gone(dataset):
    old = lance.dataset(dataset.uri, version=1)
    dataset.delete("true")
    dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True)
    assert type(raised(lambda: lance.dataset(dataset.uri, version=1))) is errors.VersionNotFoundError
    with pytest.raises(OSError, match="manifest") as caught:
        commit_deletion(dataset, read_version=1)
    assert classify(caught.value) is Outcome.GONE
    error = raised(old.to_table)
    assert type(error) is errors.CorruptTableError  # the manifest is in memory, the files are gone
    assert "open the table again" in str(error)


def test_a_missing_table_is_not_found(tmp_path):
    assert type(raised(lambda: lance.dataset(str(tmp_path / "nope")))) is errors.TableNotFoundError


def test_names_that_are_taken_already_exist(dataset):
    assert type(raised(lambda: lance.write_dataset(pa.table({"a": [1]}), dataset.uri))) is errors.AlreadyExistsError
    dataset.tags.create("t", 1)
    assert type(raised(lambda: dataset.tags.create("t", 1))) is errors.AlreadyExistsError


def test_a_missing_index_is_not_found(dataset):
    assert type(raised(lambda: dataset.drop_index("nope"))) is errors.IndexNotFoundError


@pytest.mark.parametrize(
    "call",
    [
        lambda d: lance.write_dataset(pa.table({"other": [1]}), d.uri, mode="append"),
        lambda d: lance.write_dataset(pa.table({"id": ["a"]}), d.uri, mode="append"),
        lambda d: d.add_columns(pa.schema([pa.field("id", pa.int32())])),
        lambda d: d.alter_columns({"path": "text", "name": "id"}),
    ],
    ids=["other-columns", "other-type", "add-existing", "rename-to-existing"],
)
def test_data_and_schemas_that_do_not_fit_are_schema_errors(dataset, call):
    error = raised(lambda: call(dataset))
    assert type(error) is errors.SchemaError
    assert isinstance(error, ValueError)


def test_one_key_twice_in_an_upsert_is_a_duplicate_key(dataset):
    twice = pa.concat_tables([dataset.to_table(limit=1)] * 2)
    merge = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    error = raised(lambda: merge.execute(twice))
    assert type(error) is errors.DuplicateKeyError
    assert "id = 0" in str(error)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: d.to_table(nearest={"column": "vector", "q": [1.0] * 3, "k": 3}),
        lambda d: d.to_table(nearest={"column": "text", "q": [1.0] * 3, "k": 3}),
        lambda d: d.to_table(full_text_query="x1"),
        lambda d: d.create_index("vector", "IVF_PQ", num_partitions=2, num_sub_vectors=3),
        lambda d: d.update({"id": "'abc'"}),
        lambda d: d.tags.create("a b", 1),
        lambda d: d.take([-1]),
    ],
    ids=["dimension", "not-a-vector", "no-text-index", "sub-vectors", "update-type", "tag-name", "negative"],
)
def test_calls_that_cannot_be_carried_out_are_invalid_arguments(dataset, call):
    assert type(raised(lambda: call(dataset))) is errors.InvalidArgumentError


# --- Lance: somebody else was first


def commit_deletion(dataset, read_version):
    return lance.LanceDataset.commit(dataset.uri, lance.LanceOperation.Delete([], [0], "x"), read_version=read_version)


@pytest.mark.parametrize(
    "call",
    [
        lambda d: commit_deletion(d, read_version=1),
        lambda d: d.update({"text": "'r'"}, where="id < 60", conflict_retries=0),
        lambda d: d.delete("id < 60", conflict_retries=0),
        lambda d: d.optimize.compact_files(target_rows_per_fragment=1000),
        lambda d: d.add_columns({"more": "id + 1"}),
        lambda d: d.drop_columns(["vector"]),
        lambda d: d.alter_columns({"path": "text", "name": "words"}),
    ],
    ids=["commit", "update", "delete", "compact", "add-column", "drop-column", "rename"],
)
def test_a_lost_race_is_a_conflict_to_retry(dataset, call):
    stale = lance.dataset(dataset.uri, version=1)
    dataset.update({"text": "'q'"}, where="id < 60")
    dataset.alter_columns({"path": "vector", "name": "embedding"})
    error = raised(lambda: call(stale))
    assert type(error) is errors.ConflictError
    assert classify(error.__cause__) is Outcome.RETRYABLE


def test_a_column_dropped_under_a_replacement_is_an_incompatible_conflict(dataset):
    from lance.file import LanceFileWriter

    name = "new.lance"
    with LanceFileWriter(f"{dataset.uri}/data/{name}", pa.schema([("id", pa.int64())]), version="2.2") as writer:
        writer.write_batch(pa.table({"id": pa.array(range(50), pa.int64())}))
    file = lance.fragment.DataFile.create(dataset, name) if hasattr(lance.fragment.DataFile, "create") else None
    operation = lance.LanceOperation.DataReplacement([lance.LanceOperation.DataReplacementGroup(0, file)])
    lance.dataset(dataset.uri).drop_columns(["id"])
    error = raised(lambda: lance.LanceDataset.commit(dataset.uri, operation, read_version=1))
    assert type(error) is errors.ConflictError
    assert classify(error.__cause__) is Outcome.INCOMPATIBLE


# --- Lance: damaged tables


def damage(dataset, part, change):
    for folder, _, names in os.walk(os.path.join(dataset.uri, part)):
        for name in names:
            change(os.path.join(folder, name))


def cut_to(share):
    return lambda path: os.truncate(path, int(os.path.getsize(path) * share))


def overwrite_with(byte):
    def change(path):
        size = os.path.getsize(path)
        with open(path, "r+b") as file:
            file.write(byte * size)

    return change


@pytest.mark.parametrize("change", [overwrite_with(b"\0"), os.remove], ids=["zeros", "removed"])
@pytest.mark.parametrize("part", ["data", "_deletions"])
def test_a_lost_file_is_a_corrupt_table(dataset, part, change):
    dataset.delete("id < 10")
    damage(dataset, part, change)
    error = raised(lambda: lance.dataset(dataset.uri).to_table())
    assert type(error) is errors.CorruptTableError
    assert "restore" in str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(part=st.sampled_from(["data", "_deletions", "_versions"]), share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_a_corrupt_table(tmp_path, part, share):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        dataset = write(folder + "/t.lance")
        dataset.delete("id < 10")
        damage(dataset, part, cut_to(share))
        error = raised(lambda: lance.dataset(dataset.uri).to_table())
        assert type(error) is errors.CorruptTableError


def test_a_manifest_that_makes_lance_panic_is_a_corrupt_table(dataset):
    damage(dataset, "_versions", overwrite_with(b"\xff"))
    error = raised(lambda: lance.dataset(dataset.uri))
    assert type(error) is errors.CorruptTableError


@pytest.mark.parametrize("change", [cut_to(0.1), os.remove])
def test_a_damaged_index_is_a_corrupt_table(dataset, change):
    dataset.create_scalar_index("id", "BTREE")
    damage(dataset, "_indices", change)
    error = raised(lambda: lance.dataset(dataset.uri).to_table(filter="id = 3"))
    assert type(error) is errors.CorruptTableError


# --- Lance and fsspec: places


@pytest.mark.parametrize("uri", ["zz://bucket/x", "s3:/x", "az://container/x"])
def test_a_location_that_cannot_be_reached_is_a_storage_error(uri):
    assert type(raised(lambda: lance.dataset(uri))) is errors.StorageError


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    error = raised(lambda: lance.write_dataset(pa.table({"a": [1]}), f"{tmp_path}/file/t.lance"))
    assert type(error) is errors.StorageError
    assert isinstance(error, OSError)


class Refusing(BaseHTTPRequestHandler):
    """An S3 server that answers each bucket with the error of its name."""

    replies = {
        "forbidden": (403, "AccessDenied", "Access Denied"),
        "nobucket": (404, "NoSuchBucket", "The specified bucket does not exist"),
        "wrongkey": (403, "SignatureDoesNotMatch", "The signature does not match"),
        "expired": (400, "ExpiredToken", "The provided token has expired."),
    }

    def reply(self):
        status, code, message = self.replies[self.path.split("?")[0].split("/")[1]]
        body = (
            f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message><Resource>r</Resource></Error>'
        )
        self.send_response(status)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_GET = do_HEAD = do_PUT = do_POST = reply

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def s3_options():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield {
        "aws_access_key_id": "SECRETID",
        "aws_secret_access_key": "SECRETKEY",
        "aws_endpoint": f"http://user:SECRETWORD@127.0.0.1:{server.server_port}",
        "aws_region": "us-east-1",
        "allow_http": "true",
        "client_max_retries": "0",
    }
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_bucket_that_refuses_is_a_storage_error(s3_options):
    def answer(bucket):
        return raised(lambda: lance.dataset(f"s3://{bucket}/t.lance", storage_options=s3_options))

    with ThreadPoolExecutor() as pool:  # Lance asks six times with pauses, 2 s in all
        found = dict(zip(Refusing.replies, pool.map(answer, Refusing.replies), strict=True))
    for bucket, (_, code, message) in Refusing.replies.items():
        assert type(found[bucket]) is errors.StorageError
        assert f"{code}, {message}" in str(found[bucket])
        assert "check the location, the permissions" in str(found[bucket])


@pytest.mark.parametrize("bucket", Refusing.replies)
def test_a_lake_in_a_bucket_that_refuses_is_a_storage_error(s3_options, bucket):
    options = s3_options | {
        "aws_endpoint": s3_options["aws_endpoint"].replace("user:SECRETWORD@", "")
    }  # aiohttp wants none
    error = raised(lambda: lh.connect(f"s3://{bucket}/lake", storage_options=options).table_names())
    assert type(error) is errors.StorageError
    assert f"s3://{bucket}/lake" in str(error)


def test_a_server_that_is_not_there_is_a_storage_error():
    options = {
        "aws_access_key_id": "SECRETID",
        "aws_secret_access_key": "SECRETKEY",
        "aws_endpoint": "http://user:SECRETWORD@127.0.0.1:9",  # the discard port, closed on any sane machine
        "allow_http": "true",
        "client_max_retries": "0",
    }
    error = raised(lambda: lance.dataset("s3://bucket/t.lance", storage_options=options))
    assert type(error) is errors.StorageError
    assert "***@127.0.0.1" in str(error)


def test_an_endpoint_that_is_no_url_is_a_storage_error():
    options = {
        "aws_endpoint": "nonsense",
        "aws_access_key_id": "SECRETID",
        "aws_secret_access_key": "SECRETKEY",
    }
    assert type(raised(lambda: lance.dataset("s3://b/t.lance", storage_options=options))) is errors.StorageError


def test_files_that_fsspec_cannot_open_are_storage_errors(tmp_path):
    for provoke in (
        lambda: fsspec.open(f"{tmp_path}/nope").open(),
        lambda: fsspec.core.url_to_fs("zz://x"),
        lambda: fsspec.filesystem("memory").cat_file("/nope"),
    ):
        assert type(raised(provoke)) is errors.StorageError


def test_a_file_system_that_is_not_installed_is_a_missing_dependency():
    error = raised(lambda: fsspec.filesystem("abfs"))
    assert type(error) is errors.MissingDependencyError
    assert isinstance(error, ImportError)
    assert "adlfs" in str(error)


# --- errors that Python code raises inside Arrow streams


def reader(error):
    def batches():
        yield pa.record_batch({"id": pa.array([1], pa.int64())})
        raise error

    return pa.RecordBatchReader.from_batches(pa.schema([("id", pa.int64())]), batches())


def test_an_error_of_ours_comes_through_a_stream_as_itself(tmp_path):
    for error in (errors.BadRowsError("row 3: two\nlines"), errors.MediaError("not a picture")):
        caught = raised(lambda error=error: lance.write_dataset(reader(error), str(tmp_path / "t")))
        assert (type(caught), str(caught)) == (type(error), str(error))


def test_an_error_of_a_users_iterator_is_a_data_error_that_names_it(tmp_path):
    error = raised(lambda: lance.write_dataset(reader(KeyError("label")), str(tmp_path / "t")))
    assert type(error) is errors.DataError
    assert "KeyError: 'label'" in str(error)


def test_ctrl_c_comes_through_a_stream_as_itself(tmp_path):
    with pytest.raises(KeyboardInterrupt), translated(ASKED):
        lance.write_dataset(reader(KeyboardInterrupt()), str(tmp_path / "t"))


# --- DuckDB


@pytest.fixture
def connection():
    import duckdb

    connection = duckdb.connect(config={"enable_external_access": "false", "memory_limit": "20MB", "threads": "1"})
    connection.execute("SET lock_configuration=true")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELEC 1",
        "SELECT nope FROM (SELECT 1 AS a)",
        "SELECT * FROM nope",
        "SELECT foo(1)",
        "SELECT CAST('a' AS int)",
        "SELECT $missing",
        "SELECT 9223372036854775807 + 1",
        "SELECT error('boom')",
        "SET threads = 2",
    ],
)
def test_sql_that_does_not_run_is_a_query_error(connection, sql):
    assert type(raised(lambda: connection.execute(sql).fetchall())) is errors.QueryError


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/x'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
    ],
)
def test_sql_that_reaches_outside_is_a_query_error_that_says_what_is_allowed(connection, sql):
    error = raised(lambda: connection.execute(sql))
    assert type(error) is errors.QueryError
    assert "nothing else" in str(error)


def test_sql_that_needs_too_much_memory_hits_a_resource_limit(connection):
    sql = "SELECT count(DISTINCT (a.range * 7, b.range)) FROM range(3000) a, range(3000) b"
    assert type(raised(lambda: connection.execute(sql).fetchall())) is errors.ResourceLimitError


def test_sql_that_is_interrupted_hits_a_resource_limit(connection):
    sql = "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range < b.range"
    timer = threading.Timer(0.2, connection.interrupt)
    timer.start()
    error = raised(lambda: connection.execute(sql).fetchall())
    timer.join()
    assert type(error) is errors.ResourceLimitError
    assert "Interrupted" in str(error)


def test_an_error_of_ours_comes_through_duckdb_as_itself(connection):
    connection.register("stream", reader(errors.MediaError("not a picture")))
    error = raised(lambda: connection.execute("SELECT sum(id) FROM stream").fetchall())
    connection.unregister("stream")
    assert type(error) is errors.MediaError


# --- the seam itself


def test_what_is_ours_already_is_left_alone():
    error = errors.SchemaError("as it was")
    with pytest.raises(errors.SchemaError) as caught, translated(ASKED):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "kind", [AttributeError, AssertionError, NameError, StopIteration, KeyboardInterrupt, SystemExit]
)
def test_mistakes_of_ours_and_the_end_of_things_are_not_explained_away(kind):
    with pytest.raises(kind), translated(ASKED):
        raise kind


def test_a_mistake_in_our_own_lines_is_shown_as_one():
    ours = {"__name__": "lakehouse.somewhere"}
    exec("def look(): return {}['stamp_name']\ndef call(): return look(1)", ours)
    with pytest.raises(KeyError, match="stamp_name"), translated(ASKED):
        ours["look"]()
    with pytest.raises(TypeError, match="positional"), translated(ASKED):
        ours["call"]()


def test_memory_that_runs_out_is_a_resource_limit():
    error = raised(lambda: bytearray(1 << 62))
    assert type(error) is errors.ResourceLimitError


def test_every_error_can_be_raised_pickled_and_caught_as_the_builtin_it_stands_for():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.LakehouseError)
        assert str(pickle.loads(pickle.dumps(kind("what, where, how")))) == "what, where, how"
        assert name in errors.__doc__
    assert issubclass(errors.BadRowsError, ValueError)
    assert issubclass(errors.StorageError, OSError)


def test_the_tree_lists_every_error_there_is():
    found = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.LakehouseError)
    }
    assert found == set(errors.__all__)


SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", min_size=8)


@given(SECRETS.filter(lambda s: "/" not in s), SECRETS)
def test_no_credential_survives_cleaning(word, key):
    host = "storage.example"
    for message in (
        f"GET http://user:{word}@{host}/bucket failed",
        f"options {{'aws_secret_access_key': '{key}', 'region': 'x'}}",
        f'options {{"account_key": "{key}"}}',
        f"url https://{host}/b?X-Amz-Credential={key}&X-Amz-Signature={key}&part=1",
        f"url https://{host}/b?sv=2026&sig={key}",
        f"aws_session_token={key}, password: {key}; Authorization: Bearer {key}",
    ):
        cleaned = clean(message)
        assert word not in cleaned.replace(host, "")
        assert key not in cleaned.replace(host, "")
        assert "***" in cleaned


@given(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.integers())
def test_predicates_stay_readable(column, value):
    predicate = f"num_{column}_tokens > {value} AND design = {value}"
    assert clean(predicate) == predicate


@pytest.mark.parametrize("text", ["y", "token", '"token" ', " ", "/ab+c", ", ", "a://", "Schema "])
def test_a_pasted_megabyte_is_cleaned_in_one_pass(text):
    long = (text * (1_000_000 // len(text))).strip()
    assert clean(long) == long
    assert brief(f"what happened {long}") == f"what happened {long}"[:400]


def test_a_wide_tables_columns_and_a_long_predicate_are_not_repeated_whole(lake):
    table = lake.create_table("wide", data=pa.table({f"c{n}": [n] for n in range(300)}))
    with pytest.raises(errors.ColumnNotFoundError, match=r"c18, c19 and 280 more; did you mean 'c299'"):
        table.to_arrow(["c2999"])
    with pytest.raises(errors.SchemaError, match="c19 and 280 more"):
        table.add([{"z": 1}])
    for where in ("c1 = '" + "y" * 10_000, "c1 = ')" + "y" * 10_000 + "')", ("c1 = $x", {"x": "y" * 10_000})):
        with pytest.raises(errors.FilterError) as refused:
            table.count_rows(where)
        assert len(str(refused.value)) < 1000


def test_translation_is_safe_from_many_threads(tmp_path):
    write(tmp_path / "t.lance")
    dataset = lance.dataset(str(tmp_path / "t.lance"))
    with ThreadPoolExecutor(8) as pool:
        kinds = set(pool.map(lambda _: type(raised(lambda: dataset.to_table(filter="nope = 1"))), range(32)))
    assert kinds == {errors.FilterError}


# --- what a user sees of all that


@pytest.mark.parametrize(
    "call",
    [
        lambda table: table.to_arrow(),
        lambda table: table.take([3]),
        lambda table: table.head(),
        lambda table: table.count_rows("width > 1"),
        lambda table: table.update(values={"width": 1}),
        lambda table: [*table.to_batches()],
        lambda table: [*table.loader(columns=["width"], batch_size=4)],
        lambda table: table._repr_html_(),
    ],
    ids=["to_arrow", "take", "head", "count_rows", "update", "to_batches", "loader", "html"],
)
@pytest.mark.parametrize("part", ["data", "_deletions"])
def test_whoever_reads_a_damaged_table_is_told_so(lake, pets, part, call):
    pets.delete("split = 'val'")
    damage(pets, part, cut_to(0.5))
    error = raised(lambda: call(lh.connect(lake.uri).open_table("pets")))
    assert type(error) is errors.CorruptTableError
    assert "pets" in str(error)


def test_sql_over_a_damaged_table_says_so(lake, pets):
    damage(pets, "data", cut_to(0.5))
    error = raised(lambda: lh.connect(lake.uri).sql("SELECT width FROM pets").fetchall())
    assert type(error) is errors.CorruptTableError


def test_a_lake_lists_its_tables_beside_a_damaged_one(lake, pets):
    damage(pets, "_versions", cut_to(0.5))
    assert lh.connect(lake.uri).table_names() == ["pets"]
    assert type(raised(lambda: lake.open_table("pets"))) is errors.CorruptTableError


@pytest.mark.parametrize("uri", ["zz://bucket/lake", "/proc/nowhere/lake"])
def test_a_lake_in_a_place_that_is_not_there_is_a_storage_error(uri):
    assert type(raised(lambda: lh.connect(uri).create_table("t", data=[{"id": 1}]))) is errors.StorageError


def test_a_lake_in_a_file_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("x")
    assert type(raised(lambda: lh.connect(tmp_path / "file").table_names())) is errors.StorageError
