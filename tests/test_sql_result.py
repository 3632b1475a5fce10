"""A result: lazy, computed once, whole or as a stream."""

import decimal
import gc
import io
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.errors import (
    ColumnNotFoundError,
    CorruptTableError,
    DataError,
    InvalidArgumentError,
    QueryError,
    ResourceLimitError,
    StorageError,
)
from lakehouse.progress import reporting_to
from lakehouse.sql import Engine, SqlLimits
from tests.seeded import pictures


@pytest.fixture
def numbers(lake):
    lake.create_table("numbers", data=pa.table({"id": range(1000), "kind": [f"k{i % 3}" for i in range(1000)]}))
    return lake


class Counted:
    """Rows that say how often they were read."""

    def __init__(self, num_rows=10):
        self.times_read = 0
        self.schema = pa.schema([("a", pa.int64())])
        self.num_rows = num_rows

    def __iter__(self):
        self.times_read += 1
        yield pa.record_batch({"a": range(self.num_rows)}, schema=self.schema)


def test_nothing_is_read_before_the_first_fetch_and_all_of_it_once(numbers):
    rows = Counted()
    result = numbers.sql("SELECT sum(a) AS s FROM rows", tables={"rows": iter(rows)})
    assert result.schema.names == ["s"]
    assert "not run" in repr(result)
    assert result.explain()
    assert result.fetchall() == [(45,)]
    assert result.arrow().to_pydict() == {"s": [45]}
    assert result.df().to_dict("list") == {"s": [45]}
    assert result.batches().read_all().to_pydict() == {"s": [45]}
    assert rows.times_read == 1
    assert "1 rows" in repr(result)


def test_a_stream_is_handed_out_once_and_says_so(numbers):
    result = numbers.sql("SELECT id FROM numbers")
    assert result.batches().read_all().num_rows == 1000
    for fetch in (result.batches, result.arrow, result.fetchall, result.df):
        with pytest.raises(QueryError, match="batches"):
            fetch()


def test_a_stream_after_a_fetch_gives_the_same_rows_again(numbers):
    result = numbers.sql("SELECT id FROM numbers ORDER BY hash(id)")
    whole = result.arrow()
    assert result.batches().read_all() == whole
    assert result.batches().read_all() == whole


def test_a_failed_fetch_is_not_taken_for_an_empty_result(numbers):
    result = numbers.sql("SELECT kind::INT FROM numbers")
    with pytest.raises(QueryError, match="Conversion Error"):
        result.arrow()
    with pytest.raises(QueryError, match="gone"):
        result.arrow()


def test_an_error_in_the_middle_of_a_stream_is_ours(numbers):
    result = numbers.sql("SELECT CASE WHEN range > 500000 THEN 'x' ELSE '1' END::INT FROM range(1000000)")
    with pytest.raises(QueryError, match="Conversion Error"):
        result.batches().read_all()


def test_a_mistake_is_told_when_the_statement_is_asked_without_the_text_that_is_run(numbers):
    with pytest.raises(QueryError) as mistake:
        numbers.sql("SELECT knid FROM numbers")
    text = str(mistake.value)
    assert "knid" in text
    assert '"kind"' in text
    assert "LINE" not in text
    assert "lake_" not in text


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("SELECT count(*) FROM numbers WHERE kind = $k AND id < $n", {"k": "k1", "n": 10}),
        ("SELECT count(*) FROM numbers WHERE kind = ? AND id < ?", ["k1", 10]),
        ("SELECT count(*) FROM numbers WHERE kind = ? AND id < ?", ("k1", 10)),
        ("SELECT count(*) FROM numbers WHERE kind = $1 AND id < $2", ["k1", 10]),
        ("SELECT count(*) FROM numbers WHERE kind = $1 AND id < $2", pa.array(["k1"]).to_pylist() + [10]),
    ],
)
def test_parameters_go_by_name_or_by_position(numbers, statement, params):
    assert numbers.sql(statement, params).fetchall() == [(3,)]


def test_parameters_take_what_numpy_and_arrow_hold(numbers):
    import numpy as np

    row = numbers.sql(
        "SELECT $a + 1, $b, list_sum($c), $d",
        {"a": np.int32(4), "b": pa.scalar("x"), "c": np.array([1.5, 2.5]), "d": np.float32(0.5)},
    ).fetchall()
    assert row == [(5, "x", 4.0, 0.5)]
    assert numbers.sql("SELECT $v", {"v": memoryview(b"a\0b")}).fetchall() == [(b"a\0b",)]


@pytest.mark.parametrize(
    ("statement", "params", "word"),
    [
        ("SELECT $width", None, "width"),
        ("SELECT $width", {"widht": 1}, "did you mean 'widht'"),
        ("SELECT $width", {"width": 1, "high": 2}, "high"),
        ("SELECT ?, ?", [1], r"\$2"),
        ("SELECT ?", [1, 2], r"\$2"),
        ("SELECT 1", {"w": 1}, "no parameters"),
    ],
)
def test_a_missing_or_a_spare_parameter_is_named(numbers, statement, params, word):
    with pytest.raises(QueryError, match=word):
        numbers.sql(statement, params)


def test_a_result_becomes_a_table_with_the_media_it_came_with(lake, pets):
    small = lake.sql("SELECT id, image, width FROM pets WHERE width = 24 ORDER BY id LIMIT 5")
    copy = lake.create_table("copy", data=small)
    assert copy.schema.field("image").metadata == pets.schema.field("image").metadata
    keys = lake.sql("SELECT id FROM copy").arrow()["id"].to_pylist()
    assert copy.to_arrow(columns=["image"]) == pets.get(keys, columns=["image"]).cast(
        copy.to_arrow(columns=["image"]).schema
    )


def test_a_result_is_a_table_of_another_statement(numbers):
    few = numbers.sql("SELECT id, id * 2 AS twice FROM numbers WHERE id < 4")
    joined = numbers.sql("SELECT sum(twice) FROM numbers JOIN few USING (id)", tables={"few": few})
    assert joined.fetchall() == [(12,)]


@pytest.mark.parametrize(
    "labels",
    [
        pa.table({"id": [1, 2], "label": ["a", "b"]}),
        pa.record_batch({"id": [1, 2], "label": ["a", "b"]}),
        pd.DataFrame({"id": [1, 2], "label": ["a", "b"]}),
        [{"id": 1, "label": "a"}, {"id": 2, "label": "b"}],
        pa.table({"id": [1, 2], "label": ["a", "b"]}).to_reader(),
        pa.dataset.dataset(pa.table({"id": [1, 2], "label": ["a", "b"]})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_tables_are_handed_in_as_what_people_have(numbers, labels):
    statement = "SELECT label FROM Labels JOIN numbers USING (id) ORDER BY id"
    assert numbers.sql(statement, tables={"labels": labels}).fetchall() == [("a",), ("b",)]


def test_a_stream_that_is_named_twice_is_read_once(numbers):
    rows = Counted(3)
    assert numbers.sql("SELECT count(*) FROM r a, r b", tables={"r": iter(rows)}).fetchall() == [(9,)]
    assert rows.times_read == 1


def test_float16_is_handed_in(numbers):
    table = pa.table({"h": pa.array([0.5, None], pa.float16())})
    assert numbers.sql("SELECT h FROM t", tables={"t": table}).fetchall() == [(0.5,), (None,)]
    assert numbers.sql("SELECT h FROM t", tables={"t": table.to_reader()}).fetchall() == [(0.5,), (None,)]


def test_an_error_of_the_callers_own_rows_is_said_to_be_theirs(numbers):
    def rows():
        yield pa.record_batch({"a": [1]})
        raise ZeroDivisionError("in my generator")

    with pytest.raises(DataError, match="in my generator"):
        numbers.sql("SELECT sum(a) FROM t", tables={"t": rows()}).arrow()


def test_a_file_that_is_gone_is_told_as_such(numbers):
    result = numbers.sql("SELECT sum(id) FROM numbers")
    for file in numbers.open_table("numbers").snapshot().location.path.glob("data/*"):
        file.unlink()
    with pytest.raises(CorruptTableError, match="numbers"):
        result.arrow()


def test_parquet_is_written_in_a_stream(numbers, tmp_path):
    path = tmp_path / "out.parquet"
    numbers.sql("SELECT range AS i FROM range(500000)").write_parquet(path)
    assert pq.read_table(path)["i"].to_pylist() == list(range(500_000))
    assert pq.ParquetFile(path).num_row_groups > 1
    with pytest.raises(StorageError, match="nowhere"):
        numbers.sql("FROM numbers").write_parquet(tmp_path / "nowhere" / "out.parquet")


def test_what_parquet_does_not_hold_is_named_before_a_file_is_made(numbers, tmp_path):
    for value in ("INTERVAL 1 DAY", "union_value(k := 1)", "MAP {}"):
        with pytest.raises(QueryError, match="'v' is .*, which Parquet does not hold; select "):
            numbers.sql(f"SELECT {value} AS v").write_parquet(tmp_path / "x.parquet")
    assert not (tmp_path / "x.parquet").exists()


def test_media_of_a_stream_come_in_small_batches(lake):
    lake.create_table("big", schema=pa.schema([media_field()]))
    lake.open_table("big").add([{"image": bytes([i % 256]) * 400_000} for i in range(300)])
    sizes = [batch.nbytes for batch in lake.sql("SELECT image FROM big").batches()]
    assert sum(sizes) > 300 * 400_000
    assert max(sizes) < 80 << 20
    assert len(sizes) > 3


def test_a_whole_table_of_media_is_held_once(lake):
    table = lake.create_table("big", schema=pa.schema([media_field()]))
    table.add([{"image": bytes([i]) * 400_000} for i in range(100)], progress=False)
    script = f"""
        import lakehouse as lh, pyarrow as pa
        held = lh.connect({lake.uri!r}).sql("SELECT image FROM big").arrow()
        print(held.nbytes, pa.default_memory_pool().max_memory())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True)
    nbytes, most = map(int, done.stdout.split())
    assert most < 1.5 * nbytes
    turned = lake.sql("SELECT image FROM big ORDER BY _rowid DESC").arrow()["image"].to_pylist()
    assert turned == table.to_arrow()["image"].to_pylist()[::-1]


def test_media_over_the_limit_are_refused_and_stream(lake):
    table = lake.create_table("big", schema=pa.schema([media_field()]))
    table.add([{"image": bytes([i]) * 100_000} for i in range(20)])
    engine = Engine(lake._snapshot_of, lake.table_names, SqlLimits(max_media_nbytes=1_000_000))
    for statement in ("SELECT image FROM big", "SELECT a.image FROM big a, range(3) WHERE a._rowid < 5"):
        with pytest.raises(ResourceLimitError, match="max_media_nbytes"):
            engine.query(statement).arrow()
    assert engine.query("SELECT image FROM big LIMIT 5").arrow().num_rows == 5
    sizes = [batch.num_rows for batch in engine.query("SELECT image FROM big").batches()]
    assert sum(sizes) == 20
    assert max(sizes) < 10
    little = Engine(lake._snapshot_of, lake.table_names, SqlLimits(max_media_nbytes=50_000))
    with pytest.raises(ResourceLimitError, match="one row holds about 100 kB.*raise the limit"):
        little.query("SELECT image FROM big").batches().read_all()


def media_field():
    from lakehouse import types

    return types.field("image", "image")


def test_a_stream_takes_little_memory(numbers):
    stream = numbers.sql("SELECT range, md5(range::VARCHAR) AS word FROM range(3000000)").batches()
    gc.collect()
    before = pa.total_allocated_bytes()
    most = max(pa.total_allocated_bytes() - before for _ in stream)
    assert most < 64 << 20


def test_show_prints_a_few_rows_and_no_bytes(lake, pets, capsys):
    result = lake.sql("SELECT id, width, image, NULL AS nothing FROM pets ORDER BY id")
    result.show(max_rows=3)
    printed = capsys.readouterr().out
    assert "the first 3 shown" in printed
    assert "image " in printed
    assert "kB" in printed or " B" in printed
    assert "NULL" in printed


def test_markup_and_control_characters_in_data_are_only_text(numbers, capsys):
    result = numbers.sql('SELECT $t AS "<b>"', {"t": "[red]<script>\x1b[2J"})
    result.show()
    printed = capsys.readouterr().out
    assert "[red]<script>" in printed
    assert "\x1b[2J" not in printed
    html = result._repr_html_()
    assert "<script>" not in html
    assert "&lt;b&gt;" in html


def test_a_result_without_rows_has_its_columns(numbers):
    result = numbers.sql("SELECT id, kind FROM numbers WHERE id < 0")
    assert result.arrow().schema.names == ["id", "kind"]
    assert result.fetchall() == []
    assert numbers.sql("SELECT id, kind FROM numbers WHERE id < 0").batches().read_all().num_rows == 0
    sink = io.BytesIO()
    pq.write_table(result.arrow(), sink)
    assert "<table>" in result._repr_html_()


def test_explain_says_versions_and_what_is_read_late(lake, pets):
    pets.create_index("id")
    text = lake.sql("SELECT id, image FROM pets WHERE id IN ('a', 'b') AND width + 1 > 3").explain()
    assert f"pets: version {pets.version}" in text
    assert "`id` IN ('a', 'b')" in text
    assert "from the index" in text
    assert "read for the rows of the result: image" in text
    assert "PYTHON_ARROW_SCAN" in text.upper().replace(" ", "_")


def test_a_notebook_shows_pictures_small_and_other_media_as_their_size(lake):
    columns = {"image": "image", "video": "video", "word": "string", "loose": "binary"}
    table = lake.create_table("album", schema=pa.schema([types.field(name, kind) for name, kind in columns.items()]))
    picture = pictures(1, width_px=400, height_px=300)["image"][0].as_py()
    table.add([{"image": picture, "video": b"v" * 5_000, "word": "<b>", "loose": picture}] * 30)
    table.add([{"image": picture[:200], "video": None, "word": None, "loose": b"no picture"}])
    html = lake.sql("SELECT * FROM album ORDER BY word NULLS FIRST")._repr_html_()
    assert html.count('<img src="data:image/webp;base64,') == 38  # of 20 rows, but for the broken one
    assert len(html) < 38 * 11_000 + 20_000
    assert ">video 5.00 kB</span>" in html
    assert 'title="' in html  # why one is not shown
    assert "<b>" not in html
    assert "31 rows, the first 20 shown" in html
    few = lake.sql("SELECT image AS i FROM album, range(3)")._repr_html_()
    assert few.count("<img") == 20
    nested = lake.sql("SELECT {'i': image, 'w': word} AS s, [loose] AS l, MAP {'k': loose} AS m FROM album LIMIT 2")
    assert nested._repr_html_().count("<td>") == 6


def test_of_media_only_what_is_shown_is_read(lake):
    table = lake.create_table("big", schema=pa.schema([media_field()]))
    table.add([{"image": bytes([i]) * 300_000} for i in range(100)])
    result = lake.sql("SELECT image FROM big")
    before = nbytes_read()
    result._repr_html_()
    assert nbytes_read() - before < 30 * 300_000
    assert "100 rows" in repr(result)
    assert result.arrow().num_rows == result.batches().read_all().num_rows == 100


def nbytes_read():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_numbers_keep_their_digits_where_there_is_little_room(lake, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    numbers = [str(10**18 + n) for n in range(3)]
    lake.sql(f"SELECT '{'x' * 90}' AS a, 0.5 AS b, {', '.join(numbers)}, 'more' AS c, 'and more' AS d").show()
    shown, _, caption = capsys.readouterr().out.partition("1 row")
    assert all(number in shown or number in caption for number in numbers)
    assert numbers[0] in shown


def test_a_wide_answer_stays_in_the_width_of_the_terminal(lake, pets, capsys, monkeypatch):
    for width in (20, 60, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        lake.sql("FROM pets").show(2)
        *grid, caption = capsys.readouterr().out.splitlines()
        assert max(map(len, grid)) <= width
        assert caption.startswith("20 rows, the first 2 shown; not shown for want of room: ")
        assert caption.endswith("ingested_at")
    lake.sql("SELECT 1 AS a").show()
    assert "want of room" not in capsys.readouterr().out


def test_a_column_is_had_by_its_name_and_the_row_ids_that_media_came_with(lake, pets):
    result = lake.sql("SELECT image, id FROM pets ORDER BY id LIMIT 3")
    assert result["id"].to_pylist() == sorted(pets.to_arrow(columns=["id"])["id"].to_pylist())[:3]
    assert [row["id"] for row in pets.rows(result["_rowid"])] == result["id"].to_pylist()
    assert result["image"] == result.arrow()["image"]
    plain = lake.sql("SELECT _rowid, id FROM pets ORDER BY id DESC LIMIT 2")
    assert [row["id"] for row in pets.rows(plain["_rowid"])] == plain["id"].to_pylist()
    assert [row["id"] for row in pets.rows(plain.arrow()["_rowid"])] == plain["id"].to_pylist()
    with pytest.raises(ColumnNotFoundError, match="did you mean 'image'"):
        _ = result["imaeg"]
    with pytest.raises(QueryError, match="several tables"):
        _ = lake.sql("SELECT a.image, b.image FROM pets a, pets b LIMIT 1")["_rowid"]


def test_a_column_is_asked_for_by_a_name_that_one_column_has(numbers):
    result = numbers.sql("SELECT id, id * 2 AS id, kind FROM numbers")
    assert len(result["kind"]) == 1000
    with pytest.raises(InvalidArgumentError, match="several columns are called 'id'"):
        result["id"]
    with pytest.raises(InvalidArgumentError, match=r"fetchall\(\)"):
        result[0]
    with pytest.raises(InvalidArgumentError, match=r"fetchall\(\)"):
        list(result)


def test_sums_of_whole_numbers_are_whole_numbers(numbers):
    result = numbers.sql(
        "SELECT sum(id) AS s, sum(id)::HUGEINT << 70 AS h, NULL::HUGEINT AS n, 1.5::DECIMAL(38, 0) AS d FROM numbers"
    )
    (row,) = result.fetchall()
    assert row == (499_500, 499_500 << 70, None, decimal.Decimal(2))
    assert [type(value) for value in row] == [int, int, type(None), decimal.Decimal]
    assert [str(kind) for kind in result.df().dtypes[:2]] == ["int64", "float64"]


class Slow:
    """Rows of which the second batch waits for somebody."""

    def __init__(self):
        self.reached, self.go_on, self.answered = (threading.Event() for _ in range(3))

    def __iter__(self):
        for _ in range(2):
            yield pa.record_batch({"a": [1, 2]})
            self.reached.set()
            self.go_on.wait(240)
            self.answered.set()


def test_ctrl_c_ends_the_wait_for_a_source_that_does_not_answer(numbers):
    slow = Slow()
    result = numbers.sql("SELECT sum(a) FROM slow", tables={"slow": iter(slow)})

    def press():
        slow.reached.wait(240)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        result.arrow()
    assert not slow.answered.is_set()
    assert numbers.sql("SELECT count(*) FROM numbers").fetchall() == [(1000,)]
    slow.go_on.set()
    for thread in threading.enumerate():
        if thread.name == "lakehouse-sql-stopping":
            thread.join(240)
            assert not thread.is_alive()
    with pytest.raises(QueryError, match="gone"):
        result.arrow()


def test_the_clock_ends_the_wait_as_well(tmp_path):
    lake = lh.connect(tmp_path / "lake", sql_limits=lh.SqlLimits(timeout_s=0.3))
    slow = Slow()
    with pytest.raises(ResourceLimitError, match=r"^the query '[^']*': stopped after timeout_s = 0\.3 s.*the limit$"):
        lake.sql("SELECT sum(a) FROM slow", tables={"slow": iter(slow)}).arrow()
    assert not slow.answered.is_set()
    slow.go_on.set()


def test_limits_belong_to_the_lake_and_travel_with_it(tmp_path):
    lake = lh.connect(tmp_path / "lake", sql_limits=lh.SqlLimits(max_rows=5))
    for handle in (lake, pickle.loads(pickle.dumps(lake))):
        assert handle.sql("FROM range(5)").arrow().num_rows == 5
        with pytest.raises(ResourceLimitError, match="max_rows"):
            handle.sql("FROM range(6)").arrow()


def test_progress_is_told_once_it_takes_long(numbers, monkeypatch):
    from lakehouse.sql import watch

    monkeypatch.setattr(watch, "_LOOK_S", 0.01)
    told = []

    def rows():
        yield pa.record_batch({"a": [1, 2]})
        while not told and waits:  # until a bar would have been there
            threading.Event().wait(0.01)

    waits = True
    assert watch._SHOWN_AFTER_S == 2.0
    monkeypatch.setattr(watch, "_SHOWN_AFTER_S", 0.02)
    with reporting_to(told.append):
        numbers.sql("SELECT a, id FROM rows, numbers", tables={"rows": rows()}).arrow()
    assert [each.description for each in told][0] == "SQL"
    assert told[-1].num_done <= 2000
    assert "MB read" in told[-1].note
    waits = False
    del told[:]
    with reporting_to(told.append):
        numbers.sql("SELECT sum(hash(range)) FROM range(3000000)", progress=False).arrow()
    assert told == []


@pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)  # Python's, see below
@pytest.mark.parametrize("presses", [12, pytest.param(1500, marks=pytest.mark.soak)])
def test_ctrl_c_is_a_keyboard_interrupt_whenever_it_is_pressed(pets, presses):
    lake = lh.connect(pets.snapshot().lake.uri, sql_limits=lh.SqlLimits(memory_nbytes=256 << 20))
    statements = (
        "SELECT count(*), sum(hash(range)) FROM range(90000000000)",
        "SELECT sum(length(media_sha256(image))), sum(range) FROM pets, range(90000000)",
        "SELECT hash(a.width + range) AS h FROM pets a, range(900000000) ORDER BY h",
        "SELECT id, image FROM pets ORDER BY (SELECT sum(hash(range)) FROM range(90000000000)), id LIMIT 3",
    )
    for statement in statements:  # planned once, so that what is imported then is there
        lake.sql(statement)
    rng = random.Random(0)
    waits = []
    for number in range(presses):
        delay_s, pressed, stopped = rng.random() * 0.02, [], threading.Event()

        def press(delay_s=delay_s, pressed=pressed, stopped=stopped):
            while not stopped.wait(delay_s):
                pressed.append(time.monotonic())
                os.kill(os.getpid(), signal.SIGINT)
                delay_s = 1  # Python loses one that strikes in a weakref's callback: people press again

        with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may strike before the statement is asked
            presser = threading.Thread(target=press)
            presser.start()
            lake.sql(statements[number % len(statements)]).arrow()
        waits.append(time.monotonic() - pressed[-1])
        stopped.set()
        presser.join()
    assert sorted(waits)[len(waits) // 2] < 10  # 0.1 s on two quiet cores
    assert lake.sql("SELECT count(*) FROM pets").fetchall() == [(20,)]
