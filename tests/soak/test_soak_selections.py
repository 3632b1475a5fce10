"""What is promised of several processes, with real ones: ranks over gloo that fill, and workers of a mix."""

import lance
import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.loader import Loader, LoaderOptions
from tests.test_loader_processes import _run_ranks
from tests.test_loader_readiness import double

pytestmark = pytest.mark.soak


def _rank_reads(uri):
    import lakehouse as lh

    told = []
    for on_missing in ("skip", "fill"):
        snapshot = lh.connect(uri).open_table("pets").snapshot()
        made = Loader(snapshot, LoaderOptions(columns=["x", "double"], batch_size=5, on_missing=on_missing))
        told.append((made._source.version, made._source.readiness, [x for b in made for x in b["x"].tolist()]))
    return told


def test_rank_0_alone_counts_and_fills_and_the_others_read_what_it_filled(lake, tmp_path):
    table = lake.create_table("pets", data=pa.table({"x": range(40)}))
    table.add_columns({"double": double})
    table.backfill("double", progress=False)
    table.add(pa.table({"x": range(40, 60)}), progress=False)
    lance.dataset(table.uri).update({"x": "x + 0"}, where="x = 7")  # nobody vouches for what is computed from it
    before = table.version
    num_runs = table.runs("double").num_rows
    skipped, filled = zip(*_run_ranks(2, _rank_reads, tmp_path, lake.uri), strict=True)
    (skips,) = {readiness for _, readiness, _ in skipped}
    assert {version for version, _, _ in skipped} == {before}
    assert (skips.gaps[0].num_missing, skips.num_unready) == (20, 20 + skips.gaps[0].num_stale)
    assert 7 not in sum((x for _, _, x in skipped), [])
    (fills,) = {readiness for _, readiness, _ in filled}
    assert {version for version, _, _ in filled} == {table.version}
    assert fills.num_filled == skips.num_unready
    assert sorted(sum((x for _, _, x in filled), [])) == list(range(60))
    assert table.runs("double").num_rows == num_runs + 1


def test_worker_processes_of_a_mix_make_the_same_batches(lake):
    tables = [lake.create_table(name, data=pa.table({"x": np.arange(size)})) for name, size in (("a", 90), ("b", 40))]

    def mixed(**options):
        return lh.mix(
            [(table.loader(batch_size=12, **options), size) for size, table in enumerate(tables, 1)], until=12
        )

    made, whole = mixed(num_workers=2, prefetch_batches=2), mixed()
    for _ in range(2):
        assert [batch["x"].tolist() for batch in made] == [batch["x"].tolist() for batch in whole]
