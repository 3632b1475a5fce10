"""The benchmark of SQL, at a size that proves the arms right and says nothing of speed."""

import pytest

from benchmarks.harness import in_this_process, run
from benchmarks.sql import COUNTED, IMAGES, NOTHING, TOP, TPC_H, Sql, goals

HERE = [
    name for name in Sql.arms if name != "extension"
]  # that one installs another DuckDB into an environment of its own


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    data = str(tmp_path_factory.mktemp("sql"))
    benchmark = Sql(scale=0.002, num_images=400, median_nbytes=2000, num_repeats=1, num_empty=3, data=data)
    return run(benchmark, num_rounds=1, arms=HERE, launch=in_this_process, tell=lambda _: None)


def test_every_engine_gives_the_same_answers(results):
    assert {record.arm for record in results.records} == set(HERE)
    assert {record.case for record in results.records} == {TPC_H, IMAGES, TOP, NOTHING, COUNTED}


def test_promises_are_stated(results):
    limits = [(goal.at_most, goal.at_least) for goal in goals(results)]
    assert {(1.0, None), (3.0, None), (1.05, None), (1.5, None), (None, 200)} <= set(limits)


def test_bytes_are_counted_against_what_is_needed(results):
    assert results.median("bytes_lookup_per_needed", "ours_unkept", COUNTED).value <= 2
    assert results.median("bytes_top_per_needed", "parquet_small_groups", COUNTED).value > 1
