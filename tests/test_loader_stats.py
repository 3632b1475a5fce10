"""What a loader tells of itself: counts, what bounds it, and how far an epoch is."""

import time

import numpy as np
import pyarrow as pa
import pytest

from lakehouse import types
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.forms.clips import Clip
from lakehouse.loader.stats import LoaderStats, Meter
from lakehouse.progress import reporting_to
from lakehouse.reads import Located

NBYTES = 1 << 20


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """64 rows of a megabyte that nothing is decoded of."""
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    fields = [types.field("data", "blob", storage="inline"), pa.field("x", pa.int64())]
    table = lake.create_table("large", schema=pa.schema(fields))
    payload = np.random.default_rng(0).bytes(NBYTES)
    table.add(pa.table({"data": pa.array([payload] * 64, pa.large_binary()), "x": range(64)}))
    return table.snapshot()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    import lakehouse as lh

    return (
        lh.connect(tmp_path_factory.mktemp("lake")).create_table("small", data=pa.table({"x": range(640)})).snapshot()
    )


def loader(snapshot, **options):
    return Loader(snapshot, LoaderOptions(**{"batch_size": 8} | options))


# What bounds it


def test_a_loader_of_many_bytes_is_bound_by_storage(large):
    one = loader(large)
    for _ in range(3):
        for _ in one:
            pass
    assert one.stats().verdict == "storage"
    assert one.stats().nbytes_per_row == pytest.approx(NBYTES, rel=0.01)


def slow_row(row):
    time.sleep(0.005)
    return dict(row)


def slow_batch(rows):
    time.sleep(0.02)
    return rows


@pytest.mark.parametrize("work", [{"transform": slow_row}, {"collate_fn": slow_batch}])
def test_a_loader_that_works_on_its_rows_is_bound_by_decoding(small, work):
    one = loader(small, where="x < 160", **work)
    for _ in one:
        pass
    assert one.stats().verdict == "decode"
    assert one.stats().queue_fill < 0.5


def test_what_is_read_when_its_batch_is_made_is_reading_and_not_decoding(lake, monkeypatch):
    def slow(located, index, values=Located.values):
        time.sleep(0.5)
        return values(located, index)

    monkeypatch.setattr(Located, "values", slow)
    draws = np.random.default_rng(0)
    values = pa.array([draws.bytes(20_000) for _ in range(64)], pa.large_binary())
    table = lake.create_table("values", schema=pa.schema([types.field("data", "blob", storage="inline")]))
    table.add(pa.table({"data": values}))
    one = loader(table.snapshot(), batch_size=32)  # so many are read by their place in the file
    for _ in one:
        pass
    assert one.stats().read_s >= 1
    assert one.stats().decode_s < 0.5


def test_a_loader_that_is_waited_for_by_nobody_is_bound_by_its_consumer(small):
    made, ahead = [], 4

    def counted(row):
        made.append(row["x"])
        return dict(row)

    list(loader(small, transform=dict))  # what happens once in a process
    one = loader(small, transform=counted, prefetch_batches=ahead, where="x < 320")
    for step, _ in enumerate(one, 1):  # each takes until nothing more is made ahead, whatever else the machine does
        while len(made) < min(320, 8 * (step + ahead)):
            time.sleep(0.001)
        time.sleep(0.1)
    stats = one.stats()
    assert stats.verdict == "consumer"
    assert stats.queue_fill > 0.8
    assert "consumer-bound), queue" in str(stats)
    assert 0 < stats.rows_per_s <= 8 / 0.1


def test_the_verdict_is_a_function_of_what_was_measured():
    seen = {"num_batches": 1, "elapsed_s": 10.0}
    assert LoaderStats().verdict == "nothing yet"
    assert LoaderStats(**seen, wait_s=0.1, read_s=9, decode_s=9).verdict == "consumer"
    assert LoaderStats(**seen, wait_s=5, read_s=9, decode_s=12, num_threads=2).verdict == "storage"
    assert LoaderStats(**seen, wait_s=5, read_s=9, decode_s=12, num_threads=1).verdict == "decode"
    assert LoaderStats(**seen, wait_s=5, read_s=9, decode_s=12, num_threads=2, num_readers=2).verdict == "decode"


# Counts


def test_what_is_printed_counts_in_words_and_in_fitting_units():
    assert str(LoaderStats()) == "no batches yet"
    seen = {"num_batches": 1, "num_rows": 1, "num_reads": 1, "elapsed_s": 0.5, "wait_s": 0.5, "read_s": 0.4}
    assert str(LoaderStats(**seen, nbytes_read=732)) == (
        "1 row in 1 batch, 2 rows/s, waiting 100% of the time (storage-bound); 1 read of 732 B, 732 B a row; "
        "0 bad rows, 0 short clips"
    )
    many = str(LoaderStats(**seen | {"num_batches": 2, "num_rows": 2_000}, nbytes_read=3_000_000_000))
    assert "2,000 rows in 2 batches" in many
    assert "3.00 GB, 1.50 MB a row" in many


def test_reads_and_bytes_are_told_by_the_row(large):
    one = loader(large, where="x < 48")
    list(one)
    stats = one.stats()
    assert stats.num_rows == stats.num_rows_read == 48
    assert stats.reads_per_row == stats.num_reads / 48 <= 1 / 8
    assert stats.nbytes_read == pytest.approx(48 * (NBYTES + 8), rel=0.01)


def test_no_more_is_read_than_is_handed_out(small):
    """Amplification: rows and bytes read beside those received."""
    for shuffle in (True, False):
        one = loader(small, shuffle=shuffle)
        list(one)
        stats = one.stats()
        assert stats.num_rows_read <= 1.05 * stats.num_rows
        assert stats.nbytes_read <= 1.05 * 8 * stats.num_rows


def test_a_meter_gives_what_was_added_since_the_last_time():
    meter = Meter(3)
    meter.add(num_rows=2, read_s=0.5)
    assert meter.take() == LoaderStats(num_rows=2, read_s=0.5, num_threads=3)
    assert meter.take() == LoaderStats(num_threads=3)
    with meter.timed("decode_s"):
        pass
    assert meter.stats().decode_s > 0


# How far it is


def told(one, stop=None):
    seen = []
    with reporting_to(seen.append):
        batches = iter(one)
        for _ in zip(range(stop), batches, strict=False) if stop else batches:
            pass
        batches.close()
    return seen


def test_an_epoch_shows_how_far_it_is_where_that_is_asked_for(small):
    assert told(loader(small)) == []
    seen = told(loader(small, progress=True))
    assert (seen[0].description, seen[0].unit, seen[0].total, seen[0].num_done) == (
        "epoch 0 of small",
        "batches",
        80,
        0,
    )
    assert (seen[-1].num_done, seen[-1].ended) == (80, True)


def test_a_resumed_epoch_begins_where_it_stood(small):
    one = loader(small, progress=True)
    assert not told(one, stop=50)[-1].ended
    resumed = loader(small, progress=True)
    resumed.load_state_dict(one.state_dict())
    last = told(resumed)[-1]
    assert (last.num_done, last.num_resumed, last.total, last.ended) == (80, 50, 80, True)
    assert told(resumed)[0].description == "epoch 1 of small"


def test_of_several_ranks_the_first_one_shows_it(lake):
    table = lake.create_table("shared", data=pa.table({"x": range(16)}))
    pinned = lake.open_table("shared", version=table.version).snapshot()
    ranks = [loader(pinned, rank=rank, world_size=2, batch_size=4, progress=True) for rank in range(2)]
    assert [bool(told(one)) for one in ranks] == [True, False]


def test_short_clips_are_told():
    assert "2 short clips" in str(LoaderStats(num_batches=1, num_short_clips=2))
    assert Clip(1).short == "repeat"
