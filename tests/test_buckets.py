"""A lake in a bucket: S3 as moto answers it on this machine, asked by Lance and s3fs, by several processes at once."""

import logging
import multiprocessing
import pickle
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from urllib.request import Request, urlopen

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

import lakehouse as lh
from lakehouse.errors import StorageError
from lakehouse.location import Location, fsspec_options
from tests.killing import run_and_kill
from tests.seeded import pictures

NUM_ROWS = 60


@contextmanager
def serving(answer):
    """Start S3 and give what opens it; `answer` takes moto and each request."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    moto = DomainDispatcherApplication(create_backend_app)
    with make_server("127.0.0.1", 0, partial(answer, moto), threaded=True) as server:
        threading.Thread(target=server.serve_forever).start()
        yield opening(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.fixture(scope="module")
def options():
    """Give what opens S3; none of it is in the environment, so what is not handed on is not known."""
    taking = threading.Lock()

    def answer(moto, environ, start_response):
        # As S3 does: moto by itself looks whether a name is there and then takes it, while others do the same.
        with taking if "HTTP_IF_NONE_MATCH" in environ else nullcontext():
            return moto(environ, start_response)

    with serving(answer) as opens:
        yield opens


def opening(endpoint):
    urlopen(Request(f"{endpoint}/bucket", method="PUT")).close()
    return {
        "aws_access_key_id": "somebody",
        "aws_secret_access_key": "hunter2",
        "aws_endpoint": endpoint,
        "aws_region": "us-east-1",
        "allow_http": "true",
    }


@pytest.fixture
def careless():
    """Give what opens an S3 that never hears that a name may be taken; such servers exist."""

    def deaf(moto, environ, start_response):
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return moto(environ, start_response)

    with serving(deaf) as opens:
        yield opens


@pytest.fixture
def bucket(options):
    """Open an empty lake in the bucket."""
    return lh.connect(f"s3://bucket/{uuid.uuid4().hex}", storage_options=options)


# --- one lake there and one in a folder


@lh.udf(pa.float64(), inputs=["image"])
def brightness(image):
    return sum(image) / len(image)


def lived(lake):
    """Let a team live in a lake, and return all that it answers in the end."""
    pets = lake.create_table("pets", schema="images", data=pictures(NUM_ROWS))
    pets.add_columns({"brightness": brightness, "area": "width * height"})
    pets.backfill(["brightness", "area"], progress=False)
    pets.tag("trained")
    frozen = pets.save_selection("train", where="split = 'train'", columns=["image", "brightness"])
    pets.delete("caption LIKE 'picture 1%'")
    pets.update("split = 'val'", {"caption": "updated"})
    pets.add(pictures(NUM_ROWS, seed=1), progress=False)
    pets.create_index("id")
    pets.backfill("brightness", progress=False)
    pets.compact(progress=False)
    some = pets.to_arrow(columns=["id"])["id"][5].as_py()
    top = "SELECT caption, brightness, image FROM pets {} WHERE split = 'test' ORDER BY brightness DESC LIMIT 3"
    return {
        "rows": pets.to_arrow().sort_by("id"),
        "features": pets.features().select(["column", "state", "coverage"]),
        "runs": pets.runs().select(["num_rows"]),
        "point": pets.get([some]),
        "sql": lake.sql(top.format("")).arrow(),
        "sql then": lake.sql(top.format("AT (VERSION => 'trained')")).arrow(),
        "counted": lake.sql("SELECT count(*) FROM pets WHERE id = $id", params={"id": some}).fetchall(),
        "batches": [
            (b["brightness"].tolist(), b["image"])
            for b in pets.loader(columns=["brightness", "image"], batch_size=16, seed=3, decode={"image": None})
        ],
        "selection": (frozen.num_rows, list(lake.open_selection("train").row_ids())),
        "tables": lake.table_names(),
    }


def test_a_lake_in_a_bucket_answers_as_one_in_a_folder_does(bucket, lake):
    assert lived(bucket) == lived(lake)


# --- several processes


def fill(table, column):
    table.add_columns({column: "id * 2"})
    table.backfill(column, progress=False)


def append(table, first):
    for number in range(first, first + 5):
        table.add([{"id": number}], progress=False)


def test_processes_write_to_one_table_in_a_bucket_at_once_and_lose_nothing(bucket):
    table = bucket.create_table("numbers", data=[{"id": number} for number in range(NUM_ROWS)])
    columns = [f"twice_{number}" for number in range(3)]
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=fill, args=(table, column)) for column in columns]
    writers.append(context.Process(target=append, args=(table, NUM_ROWS)))
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * 4
    table.backfill(columns, progress=False)
    ids = list(range(NUM_ROWS + 5))
    assert table.to_arrow().sort_by("id").to_pydict() == {"id": ids} | {c: [2 * i for i in ids] for c in columns}
    assert set(table.features()["state"].to_pylist()) == {"fresh"}


def test_of_all_who_take_a_name_in_a_bucket_one_gets_it(bucket, options):
    folder = Location.of(bucket.uri, options)
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(lambda number: folder.put_if_absent("name", b"%d" % number), range(8)))
    assert took.count(True) == 1
    assert folder.read_bytes("name") == b"%d" % took.index(True)


def test_a_loader_of_a_bucket_hands_what_opens_it_to_its_workers_and_into_no_file(bucket):
    table = bucket.create_table("numbers", data=[{"id": number} for number in range(NUM_ROWS)])
    loader = table.loader(batch_size=8, seed=1, num_workers=1)
    alone = table.loader(batch_size=8, seed=1)
    assert [batch["id"].tolist() for batch in loader] == [batch["id"].tolist() for batch in alone]
    assert b"hunter2" not in pickle.dumps([loader, table, bucket])


def test_a_store_that_takes_a_name_twice_is_not_written_to(careless, bucket, options):
    bucket.create_table("numbers", data=[{"id": 1}])  # at another address, which may be written to
    before = objects(bucket, options)
    lake = lh.connect(bucket.uri, storage_options=careless)  # of the same objects: moto has one memory in a process
    with pytest.raises(StorageError, match="of two commits at once one would vanish"):
        lake.create_table("others", data=[{"id": 1}])
    assert objects(bucket, options) == before


def objects(lake, options):
    storage, path = fsspec.url_to_fs(lake.uri, use_listings_cache=False, **fsspec_options(options))
    return {name: storage.cat_file(name) for name in storage.find(path)}


# --- a kill

JOB = """
import pyarrow as pa
import pyarrow.compute as pc
import lakehouse as lh
from lakehouse.features.storing import checkpoints

before(checkpoints.Checkpoints, "save", "save")

@lh.udf(pa.int64(), inputs=["id"], batch=True, batch_size=8)
def twice(ids):
    return pc.multiply(ids, 2)

table = lh.connect({uri!r}, storage_options={options!r}).open_table("numbers")
table.backfill("twice", udf=twice, progress=False)
"""


@lh.udf(pa.int64(), inputs=["id"], batch=True, batch_size=8)
def twice(ids):
    return pc.multiply(ids, 2)


def test_a_job_killed_in_a_bucket_goes_on_with_what_it_kept_there(bucket, options, tmp_path):
    table = bucket.create_table("numbers", data=[{"id": number} for number in range(NUM_ROWS)])
    table.add_columns({"twice": twice})
    run_and_kill(JOB.format(uri=bucket.uri, options=options), "save.4", tmp_path)
    done = table.backfill("twice", udf=twice, progress=False)
    assert (done.num_resumed, done.num_computed) == (24, NUM_ROWS - 24)
    assert table.to_arrow(columns=["twice"])["twice"].to_pylist() == [2 * number for number in range(NUM_ROWS)]
