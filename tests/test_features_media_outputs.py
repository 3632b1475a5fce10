"""Pictures, sounds, videos and other bytes that a function gives: stored as asked, and the same after any history."""

import hashlib
import tempfile
import weakref
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as arrays

import lakehouse as lh
from lakehouse.errors import BackfillError, CorruptTableError, SchemaError
from lakehouse.features.storing import columnfile, staging
from lakehouse.features.storing.pieces import in_order, in_place, merged
from lakehouse.features.udfs.calls import call_rows
from lakehouse.media.codecs import decode_rgb, encode_image
from lakehouse.types import Type

LARGE = 70_000  # more than is kept beside a blob's descriptor


def fill(table, *args, **options):
    return table.backfill(*args, progress=False, **options)


def of(x):
    """Return NULL, nothing, a little or much, always the same for the same number."""
    return (None, b"", bytes([x % 251]) * 9, bytes([x % 251]) * (LARGE + x))[x % 4]


def made(storage):
    return lh.udf(Type("blob", storage=storage), version="1")(of_x)


def of_x(x: int) -> bytes | None:
    return of(x)


def table_of(lake, sizes=(7, 5), **columns):
    schema = pa.schema([pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}), pa.field("x", pa.int64())])
    table, start = lake.create_table("t", schema=schema), 0
    for size in sizes:
        table.add([{"id": n, "x": n} for n in range(start, start + size)])
        start += size
    if columns:
        table.add_columns(columns)
    return table


def read(table, column="f"):
    return {row["x"]: row[column] for row in table.to_arrow(["x", column]).to_pylist()}


# What a function may return


def one(data_type, value, **options):
    """Return what is stored of a value, or the message of its failure."""
    outcome = call_rows(lh.udf(data_type, **options)(lambda x: value), {"x": pa.array([1])})
    return outcome.errors[0].message if outcome.errors else outcome.arrays["<lambda>"][0].as_py()


PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
CLIP = b"\0\0\0\x18ftypmp42"


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("image", b"as it is", b"as it is"),
        ("image", PIXELS, encode_image(PIXELS)),
        ("image", PIXELS[..., 0], encode_image(PIXELS[..., 0])),
        ("image", PIL.Image.fromarray(PIXELS), encode_image(PIXELS)),
        ("image", lh.Image(b"a handle"), b"a handle"),
        ("video", lh.Video(CLIP), CLIP),
        ("audio", lh.Audio(b"RIFF"), b"RIFF"),
        ("blob", bytearray(b"ab"), b"ab"),
        ("blob", memoryview(b"abc")[1:], b"bc"),
        ("blob", lh.Video(CLIP), CLIP),
        ("blob", pa.scalar(b"ab").as_py(), b"ab"),
        ("text", "Grüße", "Grüße"),
        ("text", lh.Text("Grüße"), "Grüße"),
        ("image", None, None),
        ("text", None, None),
        ("blob", b"", b""),
    ],
)
def test_a_medium_is_returned_as_bytes_as_a_handle_or_as_pixels(kind, value, stored):
    assert one(kind, value) == stored


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("image", PIXELS.astype(np.float32), "float32 array of shape (2, 4, 3)"),
        ("image", PIXELS[None], "uint8 array of shape (1, 2, 4, 3)"),
        ("image", lh.Video(CLIP), "not Video"),
        ("image", PIL.Image.new("CMYK", (2, 2)), "CMYK"),
        ("image", "a.png", "not str"),
        ("blob", "text", "not str"),
        ("audio", PIXELS, "of audio a function returns bytes"),
        ("text", b"bytes", "not bytes"),
    ],
)
def test_what_is_no_medium_fails_its_row_and_says_what_is_wanted(kind, value, told):
    assert told in one(kind, value)


@settings(max_examples=40)
@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9).map(lambda s: (*s[:2], 3))))
def test_pixels_come_back_exactly_and_as_the_same_bytes(pixels):
    stored = one("image", pixels)
    assert (decode_rgb(stored) == pixels).all()
    assert stored == one("image", PIL.Image.fromarray(pixels))


def test_a_batch_of_pictures_is_a_list_or_one_array_and_a_bad_one_costs_its_row():
    batch = np.stack([PIXELS, PIXELS + 1])
    for result in (batch, list(batch), [encode_image(each) for each in batch]):
        outcome = call_rows(lh.udf("image", batch=True)(lambda x, r=result: r), {"x": pa.array([1, 2])})
        assert [decode_rgb(each.as_py()).tolist() for each in outcome.arrays["<lambda>"]] == batch.tolist()
    outcome = call_rows(lh.udf("image", batch=True)(lambda x: [PIXELS, 5, None]), {"x": pa.array([1, 2, 3])})
    assert outcome.failed.tolist() == [False, True, False]
    assert outcome.arrays["<lambda>"][0].as_py() == encode_image(PIXELS)


def test_pictures_and_numbers_come_from_one_function():
    @lh.udf({"thumb": "image", "side": pa.int32()})
    def small(x: int):
        return {1: (PIXELS, 4), 2: {"side": 4, "thumb": PIL.Image.fromarray(PIXELS)}, 3: (PIXELS,), 4: ("no", 4)}[x]

    outcome = call_rows(small, {"x": pa.array([1, 2, 3, 4])})
    assert outcome.arrays["thumb"].to_pylist() == [encode_image(PIXELS)] * 2 + [None] * 2
    assert [error.row_index for error in outcome.errors] == [2, 3]


def test_decoded_pictures_of_a_batch_are_not_held_together():
    made = []

    @lh.udf("image", version="1")
    def big(x: int) -> PIL.Image.Image:
        picture = PIL.Image.new("L", (8, 8))
        made.append(weakref.ref(picture))
        assert sum(each() is not None for each in made) <= 2
        return picture

    assert not call_rows(big, {"x": pa.array(range(50))}).errors


def test_words_of_a_category_are_stored_as_declared_and_others_fail():
    kind = Type("category", values=("cat", "dog"))
    outcome = call_rows(lh.udf(kind)(lambda x: x), {"x": pa.array(["dog", None, "cow"])})
    assert outcome.arrays["<lambda>"].to_pylist() == ["dog", None, None]
    assert "not one of cat, dog" in outcome.errors[0].message
    assert outcome.arrays["<lambda>"].dictionary.to_pylist() == ["cat", "dog"]


def test_what_the_column_is_belongs_to_the_code_hash():
    def f(x):
        return None

    kinds = ["image", "audio", pa.large_binary(), Type("image", storage="blob"), "blob"]
    assert len({lh.udf(kind)(f).code_hash for kind in kinds}) == len(kinds)
    assert lh.udf("image")(f).code_hash == lh.udf(Type("image", storage="inline"))(f).code_hash


# In a table

STEPS = st.one_of(
    st.tuples(st.just("fill"), st.sampled_from([None, "x % 2 = 0", "x < 4"])),
    st.tuples(st.just("update"), st.integers(0, 11)),
    st.tuples(st.just("delete"), st.integers(0, 11)),
    st.tuples(st.just("add"), st.integers(1, 3)),
    st.tuples(st.just("compact"), st.none()),
)


@pytest.mark.parametrize("storage", ["inline", "blob"])
@settings(max_examples=7)
@given(steps=st.lists(STEPS, min_size=2, max_size=6))
def test_media_are_what_the_function_gave_after_any_history(storage, steps):
    with tempfile.TemporaryDirectory() as folder:
        table = table_of(lh.connect(folder), f=made(storage))
        last = 100
        for what, how in steps:
            if what == "fill":
                fill(table, "f", udf=made(storage), where=how)
            elif what == "update":
                table.update(f"id = {how}", {"x": how + 50})
            elif what == "delete":
                table.delete(f"id = {how}")
            elif what == "add":
                table.add([{"id": n, "x": n} for n in range(last, last + how)])
                last += how
            else:
                table.snapshot().dataset.optimize.compact_files()
            filled = table.to_arrow(["x", "f"], where="f__stamp >= 2").to_pylist()
            assert all(row["f"] == of(row["x"]) for row in filled)
        fill(table, "f", udf=made(storage))
        assert read(table) == {x: of(x) for x in read(table)}
        assert table.features()["state"].to_pylist() == ["fresh"]
        table.snapshot().dataset.validate()


def test_values_are_kept_and_packed_anew_when_their_neighbours_are_filled(lake):
    table = table_of(lake, f=made("blob"))
    fill(table, "f", udf=made("blob"), where="x < 4")
    result = fill(table, "f", udf=made("blob"))
    assert (result.num_computed, read(table)) == (8, {x: of(x) for x in range(12)})
    assert result.nbytes_written > sum(len(of(x) or b"") for x in range(12))


def test_values_computed_before_a_compaction_are_not_computed_again(lake):
    table = table_of(lake)
    calls = []

    @lh.udf("blob", version="1")
    def f(x: int) -> bytes | None:
        if not calls:
            table.snapshot().dataset.optimize.compact_files()
        calls.append(x)
        return of(x)

    table.add_columns({"f": f})
    fill(table, "f", udf=f)
    assert read(table) == {x: of(x) for x in range(12)}
    assert sorted(calls) == list(range(12))


def test_a_job_that_stops_keeps_its_bytes(lake):
    table = table_of(lake)
    broken = [10]

    @lh.udf("blob", version="1")
    def f(x: int) -> bytes | None:
        if x in broken:
            raise ValueError("not yet")
        return of(x)

    table.add_columns({"f": f})
    with pytest.raises(BackfillError, match="not yet"):
        fill(table, "f", udf=f, on_error="raise")
    broken.clear()
    assert fill(table, "f", udf=f, on_error="raise").num_computed <= 5
    assert read(table) == {x: of(x) for x in range(12)}


def test_workers_give_media_too(lake):
    table = table_of(lake, f=made("blob"))
    assert fill(table, "f", udf=made("blob"), num_workers=1).num_filled == 12
    assert read(table) == {x: of(x) for x in range(12)}


@pytest.mark.parametrize("storage", ["inline", "blob"])
def test_a_stored_picture_is_there_for_rows_sql_loader_display_and_other_functions(lake, storage):
    thumb = lh.udf(Type("image", storage=storage), version="1")(lambda x: np.full((5, 6, 3), 10 * x, np.uint8))

    @lh.udf(pa.int64(), version="1")
    def brightness(thumb: np.ndarray, again: lh.Image) -> int:
        assert again.info.width_px == 6
        return int(thumb.mean())

    table = table_of(lake, thumb=thumb, again=thumb)
    table.add_columns({"brightness": brightness})
    for name, udf in (("thumb", thumb), ("again", thumb), ("brightness", brightness)):
        fill(table, name, udf=udf)
    assert read(table, "brightness") == {x: 10 * x for x in range(12)}
    assert [row["thumb"].numpy()[0, 0, 0] for row in table.rows([2, 0])] == [20, 0]
    assert table[3]["thumb"].info.height_px == 5
    assert decode_rgb(table.take([4], columns=["thumb"])["thumb"][0].as_py())[0, 0, 0] == 40
    assert lake.sql("SELECT count(*), max(octet_length(thumb)) < 200 FROM t").fetchall() == [(12, True)]
    assert table.features()["state"].to_pylist() == ["fresh"] * 3
    assert table.preview(thumb, n=2).values.num_rows == 2
    assert "thumb" in table._repr_html_()
    (batch,) = table.loader(columns=["thumb", "x"], batch_size=12, shuffle=False)
    assert batch["thumb"][7].shape == (3, 5, 6)
    assert batch["thumb"][7].max() == 70


def test_a_change_of_the_input_makes_the_picture_and_what_is_made_of_it_stale(lake):
    thumb = lh.udf(Type("image", storage="blob"), version="1")(lambda x: np.full((2, 2, 3), x, np.uint8))
    red = lh.udf(pa.int64(), version="1")(lambda thumb: int(decode_rgb(thumb)[0, 0, 0]))
    table = table_of(lake, thumb=thumb)
    table.add_columns({"red": red})
    fill(table, "thumb", udf=thumb)
    fill(table, "red", udf=red)
    table.update("x = 5", {"x": 99})
    assert table.features()["state"].to_pylist() == ["stale(inputs)"] * 2
    assert fill(table, "thumb", udf=thumb).num_computed == 1
    assert fill(table, "red", udf=red).num_computed == 1
    assert read(table, "red")[99] == 99


@pytest.mark.parametrize("storage", ["inline", "blob"])
def test_an_older_generation_of_media_comes_back_whole(lake, storage):
    table = table_of(lake, f=made(storage))
    fill(table, "f", udf=made(storage))
    first = table.version
    other = lh.udf(Type("blob", storage=storage), version="2")(lambda x: bytes(LARGE + x))
    table.alter_udf("f", other)
    fill(table, "f", udf=other)
    table.delete("x = 3")
    table.snapshot().dataset.optimize.compact_files()
    assert read(table) == {x: bytes(LARGE + x) for x in range(12) if x != 3}
    table.rollback_column("f", version=first)
    assert read(table) == {x: of(x) for x in range(12) if x != 3}
    fill(table, "f", udf=made(storage))
    assert read(table) == {x: of(x) for x in range(12) if x != 3}


def test_a_changed_function_of_another_kind_or_place_is_refused(lake):
    table = table_of(lake, f=lh.udf("image", version="1")(lambda x: None))
    for kind in ("audio", Type("image", storage="blob"), pa.large_binary()):
        with pytest.raises(SchemaError, match="image"):
            table.alter_udf("f", lh.udf(kind, version="2")(lambda x: None))


# Files


def staged(table, values):
    snapshot = table.snapshot()
    fragment = snapshot.dataset.get_fragments()[0]
    stamps = pa.array([2] * len(values), pa.int32())
    rows = pa.table({"f": pa.array(values, pa.large_binary()), "f__stamp": stamps})
    rows = rows.cast(staging._logical(snapshot, ["f", "f__stamp"]))
    return staging.stage_rows(snapshot, ["f", "f__stamp"], fragment, in_order(rows, np.arange(len(values))))


def test_large_values_lie_in_one_sidecar_whose_size_and_hash_are_known(lake):
    table = table_of(lake, sizes=(4,), f=made("blob"))
    file = staged(table, [b"a" * LARGE, None, b"small", b"b" * LARGE])
    folder = Path(table.uri, "data")
    assert list(file.sha256)[0] == file.data_file.path
    paths = [folder / name for name in file.sha256]
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths] == list(file.sha256.values())
    assert sum(path.stat().st_size for path in paths) == file.nbytes
    assert paths[1].read_bytes() == b"a" * LARGE + b"b" * LARGE


def test_without_large_values_there_is_no_sidecar(lake):
    table = table_of(lake, sizes=(4,), f=made("blob"))
    assert len(staged(table, [b"small", None, b"", b"s" * 65_536]).sha256) == 1
    assert len(staged(table, []).sha256) == 1


def test_a_sidecar_that_was_cut_is_not_committed(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    with pytest.raises(CorruptTableError, match="3 bytes, 4 were written"):
        columnfile._flushed(tmp_path, {"a": 4})


# Rows on their way

SCHEMA = pa.schema({"v": pa.int64()})


@given(st.permutations(range(12)), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_rows_of_two_streams_come_in_place_with_nothing_between(order, num_one, num_other, more):
    one, other = order[:num_one], order[num_one : num_one + num_other]

    def stream(offsets):
        chunks = [pa.table({"v": [offset]}, schema=SCHEMA) for offset in offsets]
        return in_order(pa.concat_tables([SCHEMA.empty_table(), *chunks]), np.array(offsets, dtype=np.int64))

    batches = in_place(merged(stream(one), stream(other)), 12 + more, SCHEMA)
    given_values = pa.Table.from_batches(batches, SCHEMA)["v"].to_pylist()
    assert given_values == [n if n in one or n in other else None for n in range(12 + more)]


def test_windows_hold_some_megabytes_of_media_each():
    rows = pa.table({"f": pa.array([bytes(12 << 20)] * 7 + [b""] * 100, pa.large_binary())})
    for offsets in (np.arange(107), np.arange(107)[::-1].copy()):
        sizes = [piece.nbytes for piece, _ in in_order(rows, offsets)]
        assert max(sizes) < 50 << 20
        assert sum(sizes) >= 84 << 20
