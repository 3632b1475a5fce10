"""Several features filled in one pass: what each holds is what it would hold alone, and their inputs are decoded once."""

import io
import os
import pickle
from collections import Counter
from zlib import crc32

import counted
import hypothesis.strategies as st
import numpy as np
import PIL.Image
import PIL.ImageDraw
import pyarrow as pa
import pytest
from hypothesis import given, settings

import lakehouse as lh
from lakehouse.errors import BackfillError, ConflictError, InvalidArgumentError, SchemaError
from lakehouse.features.computing.asked import Asked
from lakehouse.features.computing.executors import environments
from lakehouse.features.jobs import grouping
from lakehouse.features.storing import landing
from lakehouse.features.storing.checkpoints import Upkeep
from lakehouse.features.udfs import shared
from lakehouse.media import codecs
from tests.killing import run_and_kill
from tests.seeded import pictures

ROWS, FRAGMENTS = 20, 3


@lh.udf(pa.int64(), version="1")
def double(x: int) -> int:
    return 2 * x


@lh.udf(pa.int64(), version="1")
def picky(x: int) -> int:
    if x % 7 == 3:
        raise ValueError(f"no {x}")
    return -x


@lh.udf({"total": pa.int64(), "name": pa.string()}, batch=True, batch_size=6, version="1")
def both(x: pa.Array, y: pa.Array) -> tuple[list[int], list[str]]:
    pairs = list(zip(x.to_pylist(), y.to_pylist(), strict=True))
    return [a + b for a, b in pairs], [f"{a}/{b}" for a, b in pairs]


FUNCTIONS = {"double": double, "picky": picky, "both": both}
COLUMNS = ["double", "picky", "total", "name"]


def numbers(lake, name="t", functions=FUNCTIONS):
    table = lake.create_table(name, schema=pa.schema([("id", pa.int64()), ("x", pa.int64()), ("y", pa.int64())]))
    for start in range(0, ROWS * FRAGMENTS, ROWS):
        ids = range(start, start + ROWS)
        table.add(pa.table({"id": ids, "x": ids, "y": [n % 3 for n in ids]}), progress=False)
    table.add_columns(functions)
    return table


def fill(table, *args, **options):
    return table.backfill(*args, progress=False, **options)


def told(table, columns=COLUMNS):
    """All that a table says of its features: values, stamps and errors."""
    stamps = [name for name in table.snapshot().physical.names if name.endswith("__stamp")]
    rows = table.snapshot().dataset.to_table(columns=["id", *columns, *stamps]).sort_by("id").to_pylist()
    errors = table.errors().select(["key", "column", "error", "message", "attempt"]).to_pylist()
    return rows, sorted(map(str, errors))


# The law

histories = st.lists(
    st.one_of(
        st.tuples(
            st.just("fill"), st.sampled_from(list(FUNCTIONS)), st.sampled_from(["x < 30", "y = 1", "id % 5 = 0"])
        ),
        st.tuples(st.just("delete"), st.sampled_from(["id < 7", "x % 11 = 2", f"id >= {2 * ROWS}"])),
        st.tuples(st.just("update"), st.sampled_from(["id = 4", "y = 2"]), st.sampled_from(["x", "y"])),
    ),
    max_size=4,
)
ways = st.fixed_dictionaries(
    {},
    optional={
        "where": st.sampled_from(["x % 2 = 0", "y != 1"]),
        "only": st.sampled_from(["missing", "stale", "failed", "all"]),
        "on_error": st.sampled_from(["record", "null"]),
        "limit": st.integers(1, 50),
    },
)


@settings(max_examples=12)
@given(history=histories, options=ways)
def test_a_pass_fills_what_filling_one_by_one_fills(tmp_path_factory, history, options):
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    together, alone = numbers(lake, "together"), numbers(lake, "alone")
    for what, *how in history:
        for table in (together, alone):
            match what:
                case "fill":
                    fill(table, how[0], FUNCTIONS[how[0]], how[1])
                case "delete":
                    table.delete(how[0])
                case "update":
                    table.update(how[0], values_sql={how[1]: f"{how[1]} + 100"})
    result = fill(together, ["double", "both", "picky"], FUNCTIONS, **options)
    results = [fill(alone, name, udf, **options) for name, udf in FUNCTIONS.items()]
    assert told(together) == told(alone)
    for count in ("num_rows", "num_filled", "num_failed", "num_computed", "num_skipped"):
        assert getattr(result, count) == sum(getattr(each, count) for each in results)


@given(st.lists(st.sets(st.integers(0, 60)), min_size=1, max_size=4), st.data())
def test_what_is_read_together_is_what_each_asked_for(wanted, data):
    ids = np.arange(1000, 1061).astype(np.uint64)
    rows = {f"t{n}": np.array(sorted(some), dtype=np.int64) for n, some in enumerate(wanted)}
    asked = Asked.of({token: (ids[offsets], offsets) for token, offsets in rows.items()})
    assert asked.offsets.tolist() == sorted(set().union(*wanted))
    assert set(asked.tokens) == {token for token, offsets in rows.items() if len(offsets)}
    cut = data.draw(st.integers(0, asked.num_rows))
    halves = asked.only(slice(cut)), asked.only(slice(cut, None))
    for token in asked.tokens:
        assert asked.rows(token)[1].tolist() == rows[token].tolist()
        assert asked.rows(token)[0].tolist() == ids[rows[token]].tolist()
        parts = [half.rows(token)[1] for half in halves if token in half.tokens]
        assert np.concatenate(parts).tolist() == rows[token].tolist()
        assert token not in asked.without({token}).tokens
    assert [each.tokens for each in asked.apart()] == [(token,) for token in asked.tokens]


# Errors stay where they are


def test_a_feature_that_fails_does_not_end_the_others_of_its_pass(lake):
    table = numbers(lake)
    with pytest.raises(BackfillError, match="'picky' failed on row"):
        fill(table, ["picky", "double", "both"], FUNCTIONS, on_error="raise")
    states = dict(zip(*(table.features()[c].to_pylist() for c in ("column", "state")), strict=True))
    assert {states[name] for name in ("double", "total", "name")} == {"fresh"}
    assert states["picky"] in ("declared", "partial")
    assert table.count_rows("picky__stamp % 2 = 1") == 0


def test_a_function_that_cannot_be_built_does_not_end_the_others(lake):
    @lh.udf(pa.int64(), version="1")
    class Unbuildable:
        def __init__(self):
            raise RuntimeError("no weights")

        def __call__(self, x: int) -> int:
            return x

    functions = {"double": double, "Unbuildable": Unbuildable()}
    table = numbers(lake, functions=functions)
    with pytest.raises(BackfillError, match="could not be built.*no weights"):
        fill(table, udf=functions)
    assert table.features()["state"].to_pylist() == ["fresh", "declared"]


def test_a_column_that_somebody_else_fills_is_told_and_the_others_are_filled(lake):
    @lh.udf(pa.int64(), version="1")
    def busy(x: int) -> int:
        if x == 0:
            with pytest.raises(ConflictError, match="filling 'busy'"):
                fill(lake.open_table("t"), ["busy", "double"], {"busy": busy, "double": double})
        return x

    table = numbers(lake, functions={"double": double, "busy": busy})
    fill(table, "busy", busy)
    assert table.features()["state"].to_pylist() == ["fresh", "fresh"]


def test_ctrl_c_commits_what_is_staged_of_each_feature(lake):
    seen = []

    @lh.udf(pa.int64(), version="1")
    def stopping(x: int) -> int:
        seen.append(x)
        if len(seen) == ROWS + 5:
            raise KeyboardInterrupt
        return x

    functions = {"double": double, "stopping": stopping}
    table = numbers(lake, functions=functions)
    with pytest.raises(KeyboardInterrupt):
        fill(table, udf=functions)
    assert table.count_rows("double IS NOT NULL") == table.count_rows("stopping IS NOT NULL") == ROWS
    again = fill(table, udf=functions)
    assert again.num_filled == 2 * (FRAGMENTS - 1) * ROWS
    assert again.num_resumed >= ROWS  # of `double`, which had come further
    assert table.to_arrow(["stopping"])["stopping"].to_pylist() == list(range(ROWS * FRAGMENTS))


def test_features_with_a_dependent_in_common_are_filled_in_one_pass(lake):
    table = numbers(lake)
    table.add_columns({"sum": "double + total"})
    result = fill(table, udf=FUNCTIONS)
    assert set(table.features()["state"].to_pylist()) == {"fresh", "partial"}
    assert result.num_computed == 4 * ROWS * FRAGMENTS
    rows = table.to_arrow(["x", "y", "sum"]).to_pylist()
    assert all(row["sum"] == 3 * row["x"] + row["y"] for row in rows)


def test_each_feature_has_its_run_and_its_commits(lake):
    table = numbers(lake, functions={"double": double, "both": both})
    before = table.version
    fill(table, udf={"double": double, "name": both})
    assert table.version == before + 2
    runs = table.runs()
    assert sorted(map(tuple, runs["columns"].to_pylist())) == [("double",), ("total", "name")]
    assert set(runs["state"].to_pylist()) == {"done"}
    assert runs["num_computed"].to_pylist() == [ROWS * FRAGMENTS] * 2


def test_one_column_of_a_pass_moved_by_others_costs_only_what_changed(tmp_path, monkeypatch, lake):
    monkeypatch.chdir(tmp_path)
    functions = {"tripled": counted.tripled, "double": double}
    table = numbers(lake, functions=functions)
    commit_staged = landing.commit_staged

    def first_the_others(*args):
        monkeypatch.setattr(landing, "commit_staged", commit_staged)
        table.update("id IN (3, 30)", values_sql={"y": "y + 7"})  # moves rows, and is no input
        table.update("id = 5", values_sql={"x": "x + 1000"})
        return commit_staged(*args)

    monkeypatch.setattr(landing, "commit_staged", first_the_others)
    fill(table, udf=functions)
    rows = table.to_arrow(["x", "tripled", "double"]).to_pylist()
    assert rows == [{"x": r["x"], "tripled": 3 * r["x"], "double": 2 * r["x"]} for r in rows]
    assert Counter(counted.calls()) == Counter([*range(ROWS * FRAGMENTS), 1005])


@pytest.mark.parametrize(
    ("columns", "udf", "message"),
    [
        (["double", "picky"], double, "2 features are to be filled"),
        ("double", {"picky": picky}, "not among the columns to fill"),
        ("x", None, "not computed by anything"),
    ],
)
def test_functions_are_given_by_column(lake, columns, udf, message):
    table = numbers(lake, functions={"double": double, "picky": picky})
    with pytest.raises(InvalidArgumentError, match=message):
        fill(table, columns, udf)


def test_columns_from_elsewhere_are_passed_over_and_named(lake):
    table = lake.create_table("t", data=pa.table({"id": [1, 2], "x": [1, 2]}))
    table.add_columns({"y": "x + 1"})
    table.add_columns_from(pa.table({"id": [1, 2], "label": ["a", "b"]}), on="id", progress=False)
    assert fill(table).num_filled == 2
    with pytest.raises(SchemaError, match=r"'label' came from .*; add_columns_from\(…\) fills it"):
        fill(table, "label")


def test_a_dry_run_of_a_pass_measures_it_as_one(lake):
    table = numbers(lake)
    plan = fill(table, ["double", "both"], {"double": double, "both": both}, dry_run=True)
    assert plan.num_rows == 2 * ROWS * FRAGMENTS
    assert plan.seconds > 0
    assert plan.nbytes >= 2 * 8 * ROWS * FRAGMENTS


# Kills

KILLED = """
import sys
sys.path.insert(0, {tests!r})
import lakehouse as lh
from counted import noted, tripled
from lakehouse.features.storing import checkpoints, landing, staging
before(checkpoints.Checkpoints, "save", "saved")
before(staging, "stage", "staging")
before(landing, "commit_staged", "committing")
lh.connect("lake").open_table("t").backfill(udf={{"noted": noted, "tripled": tripled}}, progress=False)
"""


@pytest.mark.parametrize("at", ["saved.3", "saved.4", "staging.2", "committing.1", "committing.2"])
def test_a_pass_killed_anywhere_computes_at_most_a_batch_of_each_feature_again(tmp_path, monkeypatch, lake, at):
    functions = {"noted": counted.noted, "tripled": counted.tripled}
    table = numbers(lake, functions=functions)
    run_and_kill(KILLED.format(tests=os.path.dirname(__file__)), at, tmp_path)
    monkeypatch.chdir(tmp_path)
    fill(table, udf=functions)
    assert table.features()["state"].to_pylist() == ["fresh", "fresh"]
    rows = table.to_arrow(["x", "noted", "tripled"]).to_pylist()
    assert all((row["noted"], row["tripled"]) == (row["x"], 3 * row["x"]) for row in rows)
    for calls in (counted.calls(), counted.calls("noted")):
        assert len(calls) <= ROWS * FRAGMENTS + counted.BATCH
    assert not list((tmp_path / "lake" / "_lakehouse" / "checkpoints" / "t").iterdir())


# Decoded once


@lh.udf(pa.int64(), version="1")
def spoiled(image: PIL.Image.Image) -> int:
    assert image.format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    before = image.getpixel((0, 0))
    PIL.ImageDraw.Draw(image).rectangle((0, 0, image.width, image.height), fill=1)
    image.info.clear()
    return crc32(repr((image.size, before)).encode())


@lh.udf(pa.int64(), version="1")
def inspected(image: PIL.Image.Image) -> int:
    seen = image.mode, image.size, image.tobytes(), image.format, sorted(map(str, image.info))
    return crc32(repr(seen).encode())


@lh.udf(pa.int64(), version="1")
def written(image: PIL.Image.Image) -> int:
    access, black = image.load(), 0 if len(image.getbands()) == 1 else (0,) * len(image.getbands())
    before = access[1, 1]
    access[1, 1] = black
    again = pickle.loads(pickle.dumps(image))
    image.frombytes(bytes(len(image.tobytes())))
    return crc32(repr((before, access[1, 1], again.getpixel((1, 1)), again.size, image.getpixel((2, 2)))).encode())


@lh.udf(pa.int64(), version="1")
def shrunk(image: PIL.Image.Image) -> int:
    image.thumbnail((5, 5))
    image.paste(1, (0, 0, 2, 2))
    image.putpixel((0, 0), 0 if len(image.getbands()) == 1 else (7,) * len(image.getbands()))
    return crc32(image.tobytes())


@lh.udf(pa.int64(), batch=True, version="1")
def summed(image: list[PIL.Image.Image]) -> list[int]:
    return [int(np.asarray(each, dtype=np.int64).sum()) for each in image]


@lh.udf(pa.int64(), version="1")
def blackened(image: np.ndarray) -> int:
    image[:] = 0  # what is decoded is read-only, here and there
    return 0


@lh.udf(pa.int64(), version="1")
def pixels(image: np.ndarray) -> int:
    return crc32(image.tobytes())


@lh.udf(pa.int64(), version="1")
def sized(image: bytes) -> int:
    return len(image)


SEEN = {f.target.__name__: f for f in (spoiled, written, shrunk, inspected, summed, blackened, pixels, sized)}


def gif():
    frames = [PIL.Image.new("P", (8, 8), n) for n in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def album(lake, name, num=12):
    schema = lh.Schema.parse(
        'name = "t"\nkey = "id"\n[columns]\nid = { type = "string", nullable = false }\nimage = { type = "image" }'
    )
    table = lake.create_table(name, schema=schema)
    rows = [{"id": row["id"], "image": row["image"]} for row in pictures(num).to_pylist()]
    table.add([*rows, {"id": "none", "image": None}, {"id": "moving", "image": gif()}], progress=False)
    table.add_columns(SEEN)
    return table


def test_media_are_decoded_once_a_form_and_each_function_has_its_own(lake, monkeypatch):
    together, alone = album(lake, "together"), album(lake, "alone")
    for name, udf in SEEN.items():
        fill(alone, name, udf)
    decoded = Counter()
    for form in ("decode_image", "decode_rgb"):
        function = getattr(codecs, form)
        monkeypatch.setattr(
            codecs, form, lambda *a, function=function, form=form, **k: decoded.update({form: 1}) or function(*a, **k)
        )
    fill(together, udf=SEEN)
    assert together.to_arrow(["id", *SEEN]) == alone.to_arrow(["id", *SEEN])
    moving = 5  # an animation is decoded for each function that takes it so; `decode_rgb` decodes by `decode_image`
    assert decoded == {"decode_rgb": 13, "decode_image": 12 + moving + 13}


def test_media_that_find_no_room_are_decoded_again_and_come_out_the_same(lake, monkeypatch):
    monkeypatch.setattr(shared, "_KEPT_NBYTES", 100_000)
    together, alone = album(lake, "together"), album(lake, "alone")
    for name, udf in SEEN.items():
        fill(alone, name, udf)
    fill(together, udf=SEEN)
    assert together.to_arrow(["id", *SEEN]) == alone.to_arrow(["id", *SEEN])


def test_workers_share_the_pictures_of_a_pass_too(lake):
    table = album(lake, "t", 40)
    result = fill(table, udf=SEEN, num_workers=2)
    assert result.num_computed == len(SEEN) * 42
    alone = album(lake, "alone", 40)
    for name, udf in SEEN.items():
        fill(alone, name, udf)
    assert table.to_arrow(["id", *SEEN]) == alone.to_arrow(["id", *SEEN])


# Laws of what decides


@given(st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 100), st.floats(0, 0.01)), max_size=60), st.booleans())
def test_keeping_takes_a_twentieth_of_the_computing_and_a_tenth_of_a_second(parts, is_local):
    upkeep, writing_s, computed_s, longest_s = Upkeep(is_local=is_local), 0.0, 0.0, 0.0
    for nbytes, seconds, slower_s in parts:
        computed_s += seconds
        if upkeep.worth(nbytes, seconds):
            took_s = ((0.001 + nbytes / 5e8) if is_local else (0.1 + nbytes / 1e8)) + slower_s
            upkeep.took(nbytes, took_s)
            writing_s, longest_s = writing_s + took_s, max(longest_s, slower_s)
        assert writing_s <= 0.1001 + 0.0501 * computed_s + longest_s


@given(st.floats(2e-6, 1.0), st.integers(1, 65_536))
def test_of_a_function_that_is_worth_it_a_kill_costs_a_blink_of_work(row_s, rows):
    upkeep, at_risk = Upkeep(is_local=True, free_s=0.0), 0
    for _ in range(100):
        at_risk += rows
        if upkeep.worth(at_risk * 28, rows * row_s):
            upkeep.took(at_risk * 28, 0.0)
            at_risk = 0
        assert at_risk * row_s <= 0.05


@given(st.sampled_from([0.0, 1e-6, 1.0]), st.integers(1, 10**9))
def test_a_batch_of_a_chosen_size_is_always_kept_and_what_lance_computes_never(seconds, nbytes):
    assert Upkeep(is_local=True, free_s=float("inf")).worth(nbytes, seconds)
    assert not Upkeep(is_local=True, free_s=float("-inf")).worth(nbytes, seconds)


@given(st.integers(0, 10**9), st.floats(0, 1e6), st.floats(0, 1))
def test_commits_become_rarer_as_the_manifest_grows(manifest_nbytes, waited_s, share):
    due = grouping.is_due(waited_s, share, manifest_nbytes)
    assert not (waited_s <= 10 and due)
    assert share < 1 / 3 or waited_s <= 10 or due
    if share < 1 / 3 and due:
        assert waited_s > 60
        assert manifest_nbytes / waited_s <= 1000  # bytes a second: 30 jobs write 2.6 GB a day
    if due:
        assert grouping.is_due(waited_s, share, manifest_nbytes // 2)


@pytest.mark.parametrize(
    ("visible", "num_gpus", "seats"),
    [
        ("0,2", 1, ["0", "2", "0"]),
        ("GPU-8f, MIG-1", 1, ["GPU-8f", "MIG-1", "GPU-8f"]),
        ("", 1, [None] * 3),
        ("0,1", 0, [None] * 3),
        ("0,1", 0.5, [None] * 3),
    ],
)
def test_workers_of_functions_that_want_a_gpu_have_one_each(monkeypatch, visible, num_gpus, seats):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    udf = lh.udf(pa.int64(), version="1", num_gpus=num_gpus)(lambda x: x)
    assert [env.get("CUDA_VISIBLE_DEVICES") for env in environments([double, udf], 3)] == seats


def test_all_gpus_of_the_machine_are_used_where_none_are_named(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("lakehouse.features.computing.executors._NVIDIA", tmp_path / "gpus")
    udf = lh.udf(pa.int64(), version="1", num_gpus=2)(lambda x: x)
    assert environments([udf], 2)[0].keys() == {"LANCE_CPU_THREADS", "OMP_NUM_THREADS"}
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / bus).mkdir(parents=True)
    assert [env["CUDA_VISIBLE_DEVICES"] for env in environments([udf], 3)] == ["0", "1", "0"]


def test_threads_the_user_asked_for_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert [env["OMP_NUM_THREADS"] for env in environments([double], 2)] == ["7", "7"]
