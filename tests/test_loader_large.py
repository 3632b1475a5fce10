"""Large values are found by the read and read by the batch: the same bytes, the same errors."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import reads, types
from lakehouse.errors import CorruptTableError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.reads import places
from tests.media_files import picture

UNCOMPRESSED = {"lance-encoding:compression": "none"}
SCHEMA = pa.schema(
    [
        pa.field("n", pa.int64()),
        pa.field("large", pa.large_binary(), metadata=UNCOMPRESSED),
        pa.field("small", pa.binary(), metadata=UNCOMPRESSED),
        types.field("image", "image"),
    ]
)
NUM_ROWS, LARGE_NBYTES, SMALL_NBYTES = 120, 9_000, 600


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Make three fragments of large and small bytes and of pictures; some rows were deleted, some moved."""
    rng = np.random.default_rng(0)
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", schema=SCHEMA)
    for part in np.split(np.arange(NUM_ROWS), 3):
        cells = [
            pa.array(part),
            pa.array([rng.bytes(LARGE_NBYTES + n) for n in part], pa.large_binary()),
            pa.array([rng.bytes(SMALL_NBYTES + n) for n in part], pa.binary()),
            pa.array([picture(seed=n, width_px=64, height_px=48) for n in part], pa.large_binary()),
        ]
        table.add(pa.table(cells, schema=SCHEMA), progress=False)
    table.delete("n % 7 = 3")
    table.update(where="n % 11 = 5", values_sql={"n": "n + 0"})
    return table


def batches(table, **options):
    snapshot = table.snapshot()
    reads.take_row_ids(snapshot, reads.row_ids(snapshot), ["large", "small", "image"])  # now their places pay
    return list(Loader(snapshot, LoaderOptions(columns=["n", "large", "small", "image"], **options)))


@settings(max_examples=15)
@given(
    shuffle=st.sampled_from([True, False, "block"]),
    batch_size=st.integers(1, 40),
    prefetch_batches=st.integers(0, 3),
    on_bad_rows=st.sampled_from(["raise", "substitute"]),
)
def test_batches_are_those_that_lance_would_read(table, shuffle, batch_size, prefetch_batches, on_bad_rows):
    options = {
        "shuffle": shuffle,
        "batch_size": batch_size,
        "prefetch_batches": prefetch_batches,
        "on_bad_rows": on_bad_rows,
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "_FEWEST_ROWS", NUM_ROWS + 1)
        expected = batches(table, **options)
    for batch, by_lance in zip(batches(table, **options), expected, strict=True):
        assert batch["n"].tolist() == by_lance["n"].tolist()
        assert batch["large"] == by_lance["large"]
        assert batch["small"] == by_lance["small"]
        assert np.array_equal(batch["image"], by_lance["image"])


def test_what_was_read_is_counted_when_it_is_read(table):
    snapshot = table.snapshot()
    loader = Loader(snapshot, LoaderOptions(columns=["n", "large"], batch_size=16, prefetch_batches=0, drop_last=False))
    received = sum(len(value) for batch in loader for value in batch["large"])
    stats = loader.stats()
    assert stats.nbytes_read == pytest.approx(received + 8 * stats.num_rows, rel=0.02)
    assert stats.num_rows_read == stats.num_rows


@pytest.mark.parametrize("on_bad_rows", ["raise", "substitute"])
def test_a_file_cut_off_meanwhile_is_no_bad_row(lake, on_bad_rows):
    table = lake.create_table("t", schema=pa.schema([pa.field("data", pa.large_binary(), metadata=UNCOMPRESSED)]))
    table.add(pa.table({"data": pa.array([os.urandom(9_000) for _ in range(64)], pa.large_binary())}), progress=False)
    loader = table.loader(batch_size=16, shuffle=False, prefetch_batches=0, on_bad_rows=on_bad_rows)
    received = iter(loader)
    next(received)
    (file,) = Path(table.uri, "data").iterdir()
    os.truncate(file, 200_000)
    with pytest.raises(CorruptTableError, match="ends at byte 200000"):
        list(received)
