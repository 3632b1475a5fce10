"""A result: lazy, computed once, whole or as a stream."""

import gc
import io
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakehouse.errors import CorruptTableError, DataError, QueryError, ResourceLimitError, StorageError
from lakehouse.sql import Engine, Limits


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
    stream = numbers.sql("SELECT CASE WHEN range > 500000 THEN 'x' ELSE '1' END::INT FROM range(1000000)").batches()
    with pytest.raises(QueryError, match="Conversion Error"):
        stream.read_all()


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


def test_media_of_a_stream_come_in_small_batches(lake):
    lake.create_table("big", schema=pa.schema([media_field()]))
    lake.open_table("big").add([{"image": bytes([i % 256]) * 400_000} for i in range(300)])
    sizes = [batch.nbytes for batch in lake.sql("SELECT image FROM big").batches()]
    assert sum(sizes) > 300 * 400_000
    assert max(sizes) < 80 << 20
    assert len(sizes) > 3


def test_media_over_the_limit_are_refused_and_stream(lake):
    table = lake.create_table("big", schema=pa.schema([media_field()]))
    table.add([{"image": bytes([i]) * 100_000} for i in range(20)])
    engine = Engine(lake._snapshot_of, lake.table_names, Limits(max_media_nbytes=1_000_000))
    for statement in ("SELECT image FROM big", "SELECT a.image FROM big a, range(3) WHERE a._rowid < 5"):
        with pytest.raises(ResourceLimitError, match="max_media_nbytes"):
            engine.query(statement).arrow()
    assert engine.query("SELECT image FROM big LIMIT 5").arrow().num_rows == 5
    streamed = Engine(lake._snapshot_of, lake.table_names, Limits(max_media_nbytes=4_000_000)).query(
        "SELECT image FROM big"
    )
    assert sum(batch.num_rows for batch in streamed.batches()) == 20


def media_field():
    from lakehouse import types

    return types.field("image", "image")


def test_a_stream_takes_little_memory(numbers):
    stream = numbers.sql("SELECT range, md5(range::VARCHAR) AS word FROM range(3000000)").batches()
    gc.collect()
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = max(pa.total_allocated_bytes() - before for _ in stream)
    tracemalloc.stop()
    assert most < 64 << 20


def test_show_prints_a_few_rows_and_no_bytes(lake, pets, capsys):
    result = lake.sql("SELECT id, width, image, NULL AS nothing FROM pets ORDER BY id")
    result.show(max_rows=3)
    printed = capsys.readouterr().out
    assert "the first 3 shown" in printed
    assert "bytes" in printed
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
    assert "from an index" in text
    assert "read for the rows of the result: image" in text
    assert "PYTHON_ARROW_SCAN" in text.upper().replace(" ", "_")
