"""Rows whose features are missing or stale are refused, left out or filled, and counted before any is read."""

import datetime as dt
import queue

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import DataError, InvalidArgumentError
from lakehouse.loader import Loader, LoaderOptions, ranks
from lakehouse.loader.rows.asked import Asked
from lakehouse.loader.rows.needs import Needs
from lakehouse.loader.rows.readiness import Gap, Readiness, made_ready


@lh.udf(pa.int64(), version="1")
def double(x: int) -> int:
    return 2 * x


@lh.udf(pa.int64(), version="2")
def double_again(x: int) -> int:
    return 2 * x


@lh.udf(pa.int64(), version="1")
def picky(x: int) -> int:
    if x % 10 == 3:
        raise ValueError("no threes")
    return x


@lh.udf(pa.int64(), version="1")
class Busy:
    """While it computes, somebody adds rows, as often as it was told."""

    def __init__(self, uri, times):
        self.uri, self.times = uri, times

    def __call__(self, x: int) -> int:
        table = lh.connect(self.uri).open_table("busy")
        if len(table) < 5 + self.times and x == len(table) - 1:
            table.add([{"x": len(table)}], progress=False)
        return 2 * x


@pytest.fixture
def table(lake):
    """Sixty rows, of which the first forty have their double."""
    table = lake.create_table("pets", data=pa.table({"x": range(40), "split": ["train", "val"] * 20}))
    table.add_columns({"double": double})
    table.backfill("double", progress=False)
    table.add(pa.table({"x": range(40, 60), "split": ["train", "val"] * 10}), progress=False)
    return table


def loader(table, **options):
    return Loader(table.snapshot(), LoaderOptions(**{"batch_size": 1, "shuffle": False, **options}))


def xs(batches):
    return sorted(int(x) for batch in batches for x in batch["x"])


def readiness(table, **options):
    return loader(table, on_missing="skip", **options)._source.readiness


def test_rows_that_were_not_computed_are_refused_before_the_first_batch_and_counted(table):
    with pytest.raises(DataError) as refused:
        loader(table, columns=["x", "double"])
    assert str(refused.value) == (
        f"'pets' at version {table.version}: 20 of 60 rows are not ready: 'double' is missing in 20. backfill(['double']) "
        "fills them; on_missing='skip' leaves them out, 'fill' fills them now"
    )


def test_only_what_is_read_must_be_ready(table):
    assert xs(loader(table, columns=["x"])) == list(range(60))
    assert xs(loader(table, columns=["x", "double"], where="x < 40")) == list(range(40))
    with pytest.raises(DataError, match="20 of 60"):
        loader(table)  # all columns


def test_skip_leaves_them_out_and_says_how_many(table):
    made = loader(table, columns=["x", "double"], where="split = 'train'", on_missing="skip")
    assert xs(made) == list(range(0, 40, 2))
    source = made._source
    assert (source.num_left_out, source.readiness.num_unready, source.readiness.num_rows) == (10, 10, 30)
    assert str(source.readiness) == "10 of 30 rows are not ready: 'double' is missing in 10"


def test_fill_computes_what_is_asked_for_and_nothing_else(table):
    made = loader(table, columns=["x", "double"], where="split = 'train'", on_missing="fill")
    assert [(int(b["x"][0]), int(b["double"][0])) for b in made] == [(x, 2 * x) for x in range(0, 60, 2)]
    assert made._source.version == table.version
    assert made._source.readiness.num_filled == 10
    assert table.count_rows("double IS NULL") == 10
    assert (
        loader(table, columns=["double"], where="split = 'train'", on_missing="fill")._source.version == table.version
    )


def test_a_pinned_table_is_not_filled(table, lake):
    pinned = lake.open_table("pets", version=table.version)
    with pytest.raises(InvalidArgumentError, match=f"'pets' is pinned to version {table.version}"):
        loader(pinned, columns=["double"], on_missing="fill")
    assert len(loader(pinned, columns=["double"], on_missing="skip")) == 40


@pytest.mark.parametrize("times", [2, 50])
def test_rows_that_are_added_meanwhile_are_filled_too_unless_they_come_faster(lake, times):
    table = lake.create_table("busy", data=[{"x": i} for i in range(5)])
    table.add_columns({"double": Busy(lake.uri, times)})
    if times == 50:
        with pytest.raises(DataError, match="after filling, 'busy' at version .*: 1 of"):
            loader(table, on_missing="fill")
    else:
        assert xs(loader(table, on_missing="fill")) == list(range(7))


def test_values_of_an_older_function_and_of_changed_inputs_are_stale(table):
    table.backfill("double", progress=False)
    table.update(where="x < 5", values_sql={"x": "x + 100"})
    assert readiness(table).gaps == (Gap("double", num_stale=5),)
    table.alter_udf("double", double_again)
    assert readiness(table).gaps == (Gap("double", num_stale=60),)
    with pytest.raises(DataError, match="'double' is stale in 60"):
        loader(table)
    table.backfill("double", udf=double_again, progress=False)
    assert loader(table)._source.readiness.num_unready == 0


def test_rows_that_others_wrote_are_not_vouched_for(table):
    table.backfill("double", progress=False)
    lance.dataset(table.uri).update({"x": "x + 1000"}, where="x = 7")
    with pytest.raises(DataError, match="'double' is stale in"):
        loader(table)
    left = loader(table, on_missing="skip")
    assert 1007 not in xs(left)
    filled = loader(table, on_missing="fill")
    assert {int(b["x"][0]): int(b["double"][0]) for b in filled}[1007] == 2014


def test_rows_whose_function_failed_are_told_apart(lake):
    table = lake.create_table("t", data=pa.table({"x": range(30)}))
    table.add_columns({"picky": picky})
    table.backfill("picky", progress=False)
    with pytest.raises(DataError, match=r"'picky' is failed in 3.*errors\(\['picky'\]\) says why.*only='failed'"):
        loader(table)
    with pytest.raises(DataError, match=r"after filling, .*'picky' is failed in 3"):
        loader(table, on_missing="fill")
    assert len(loader(table, on_missing="skip")) == 27


def test_a_feature_made_of_a_stale_one_is_not_ready(lake):
    table = lake.create_table("t", data=pa.table({"x": range(10)}))
    table.add_columns({"double": double})
    table.add_columns({"more": "double + 1"})
    table.backfill(progress=False)
    table.alter_udf("double", double_again)
    with pytest.raises(DataError, match="'double' is stale in 10"):
        loader(table, columns=["x", "more"])
    filled = loader(table, columns=["x", "more"], on_missing="fill")
    assert [int(batch["more"][0]) for batch in filled] == [2 * x + 1 for x in range(10)]


def test_imported_columns_are_brought_not_computed(lake):
    table = lake.create_table("t", data=pa.table({"id": list("abc")}))
    table.add_columns_from(pa.table({"id": list("ab"), "label": [1, 2]}), on="id")
    table.add(pa.table({"id": ["d"]}), progress=False)
    with pytest.raises(DataError, match=r"'label' is missing in 1.*add_columns_from\(…\) brings it"):
        loader(table, where="id = 'd' OR id < 'c'")
    with pytest.raises(DataError, match="after filling"):
        loader(table, where="id = 'd'", on_missing="fill")


@pytest.mark.parametrize(
    ("where", "num_unready"),
    [
        ("double >= 0", 20),
        ("DOUBLE >= 0", 20),
        ("`double` >= 0", 20),
        ("split = 'train' AND double >= 0", 10),
        ("x < 50 AND (double >= 70 OR split = 'val')", 10),
        ("x < 40 AND double > 3", 0),
        ("split = 'double'", 0),
        ("abs(double) >= 0 AND x >= 59", 1),
        (("double > $low", {"low": 3}), 20),
        ("double IS NOT NULL", 0),
    ],
)
def test_rows_of_which_nobody_can_say_that_they_match_count_as_asked_for(table, where, num_unready):
    needs = Needs.of(table.snapshot(), ["x"], where)
    assert made_ready(table.snapshot(), needs, "skip")[1].num_unready == num_unready
    if num_unready:
        with pytest.raises(DataError, match=f"{num_unready} of "):
            loader(table, columns=["x"], where=where)
    filled = loader(table, columns=["x"], where=where, on_missing="fill")
    text = where if isinstance(where, str) else "double > 3"
    expected = [x for x in range(60) if text != "split = 'double'" and matches(text, x)]
    assert xs(filled) == [x for x in expected if "NOT NULL" not in text or x < 40]


def matches(text, x):
    names = {"double": 2 * x, "DOUBLE": 2 * x, "x": x, "split": ["train", "val"][x % 2], "abs": abs}
    python = text.replace("`", "").replace(" = ", " == ").replace("AND", "and").replace("OR", "or")
    return eval(python.replace("IS NOT NULL", ">= 0"), {}, names)


def test_plain_nulls_are_what_they_were(lake):
    table = lake.create_table("t", data=pa.table({"x": [1, None, 3], "name": ["a", "b", None]}))
    assert len(loader(table)) == 3
    left = loader(table, on_missing="skip")
    assert (len(left), left._source.num_left_out) == (2, 1)


def test_features_that_come_and_go_are_known_by_more_than_their_name(table):
    table.rename_column("double", "twice")
    assert readiness(table, columns=["twice"]).gaps == (Gap("twice", num_missing=20),)
    table.drop_columns(["twice"])
    table.add_columns({"twice": pa.field("twice", pa.int64())})
    assert len(loader(table, columns=["x"], on_missing="raise")) == 60
    table.drop_columns(["twice"])
    table.add_columns({"twice": double})
    assert readiness(table, columns=["twice"]).gaps == (Gap("twice", num_missing=60),)


def test_what_is_filled_or_spoilt_later_changes_no_loader_that_is_open(table):
    made = loader(table, columns=["x", "double"], on_missing="skip")
    batches = iter(made)
    first = next(batches)
    table.backfill("double", progress=False)
    table.update(values_sql={"x": "x + 1000"})
    table.alter_udf("double", double_again)
    assert xs([first, *batches]) == list(range(40))
    state = made.state_dict()
    again = loader(table, columns=["x", "double"], on_missing="skip")
    again.load_state_dict(state)
    assert again._source.version == made._source.version


def test_a_state_of_rows_left_out_reopens_after_the_log_was_cleaned_up(table):
    made = loader(table, columns=["x", "double"], on_missing="skip", batch_size=4)
    batches = iter(made)
    seen = [next(batches)]
    state = made.state_dict()
    table.backfill("double", progress=False)
    dataset = lance.dataset(table.uri)
    dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)
    again = loader(table, columns=["x", "double"], on_missing="skip", batch_size=4)
    again.load_state_dict(state)
    assert xs([*seen, *again]) == list(range(40))


rows = st.sets(st.integers(0, 19))


@settings(max_examples=12)
@given(rows, rows, st.booleans())
def test_rows_are_counted_by_what_was_done_to_them(tmp_path_factory, first, second, filtered):
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", data=pa.table({"x": range(20)}))
    table.add_columns({"picky": double})
    for function, chosen in ((double, first), (picky, second)):
        if function is picky:
            table.alter_udf("picky", picky)
        if chosen:
            table.backfill("picky", udf=function, where=("x IN $x", {"x": sorted(chosen)}), progress=False)
    asked = [x for x in range(20) if x >= 10 or not filtered]
    stale = sum(x in first - second for x in asked)
    failed = sum(x % 10 == 3 and x in second for x in asked)
    ready = sum(x % 10 != 3 and x in second for x in asked)
    found = made_ready(table.snapshot(), Needs.of(table.snapshot(), ["picky"], "x >= 10" if filtered else None), "skip")
    missing = len(asked) - stale - failed - ready
    gaps = (Gap("picky", missing, stale, failed),) if missing + stale + failed else ()
    assert found[1] == Readiness(len(asked), missing + stale + failed, gaps)
    left = loader(table, columns=["x"], where="x >= 10" if filtered else None, on_missing="skip")
    assert len(left) == len(asked)
    left = loader(table, columns=["picky"], where="x >= 10" if filtered else None, on_missing="skip")
    assert len(left) == ready


def test_rank_0_alone_counts_and_fills_and_the_others_read_what_it_filled(table, monkeypatch):
    lance.dataset(table.uri).update({"x": "x + 0"}, where="x = 7")  # nobody vouches for what is computed from it
    num_runs = table.runs("double").num_rows
    said = queue.SimpleQueue()
    monkeypatch.setattr(
        ranks.distributed, "broadcast", lambda value: said.put(value) if value else said.get(timeout=240)
    )
    found = {}
    for on_missing in ("skip", "fill"):
        asked = Asked(("x", "double"), ("x", "double"), None, on_missing)
        snapshot = table.snapshot()
        lead, follow = (ranks.select_together(snapshot, asked, rank) for rank in (0, 1))
        assert (follow.snapshot.version, follow.digest) == (lead.snapshot.version, lead.digest)
        assert follow.readiness == lead.readiness
        found[on_missing] = lead
    (gap,) = found["skip"].readiness.gaps
    assert (gap.num_missing, found["skip"].selection.num_rows) == (20, 40 - gap.num_stale)
    assert found["fill"].readiness.num_filled == 20 + gap.num_stale > 20
    assert (found["fill"].snapshot.version, found["fill"].selection.num_rows) == (table.version, 60)
    assert table.runs("double").num_rows == num_runs + 1
