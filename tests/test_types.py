"""Type strings, the fields they stand for, and what is refused."""

import pickle
from decimal import Decimal

import lance
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import SchemaError
from lakehouse.type_strings import parse_arrow, print_arrow
from lakehouse.types import Type
from tests import schema_strategies


@given(schema_strategies.arrow_types)
def test_a_printed_arrow_type_reads_back_equal(data_type):
    assert parse_arrow(print_arrow(data_type)) == data_type


@given(schema_strategies.types)
def test_a_field_gives_its_type_back(wanted):
    field = types.field("x", wanted)
    assert Type.from_field(field) == wanted
    assert hash(Type.from_field(field)) == hash(wanted)


@given(schema_strategies.types)
def test_a_type_is_a_value(wanted):
    assert eval(repr(wanted)) == wanted
    assert pickle.loads(pickle.dumps(wanted)) == wanted
    assert Type(str(wanted), wanted.values, wanted.storage) == wanted


@given(schema_strategies.arrow_types)
def test_spaces_around_marks_change_nothing(data_type):
    text = print_arrow(data_type)
    if '"' not in text:
        spaced = (
            text.replace("<", " < ").replace(">", " > ").replace(",", " , ").replace("[", " [ ").replace("]", " ] ")
        )
        assert Type(f"  {spaced}  ") == Type(text)


@given(st.text(max_size=30) | st.text('abint8<>[](),: "list<vector<map<struct', max_size=40))
def test_any_text_is_a_type_or_a_schema_error(text):
    try:
        found = Type(text)
    except SchemaError:
        return
    assert Type(str(found)) == found


@given(schema_strategies.plain_types, st.integers(0, 200), st.sampled_from(["", "<", ">", ",", "0", "]", " "]))
def test_a_damaged_type_string_is_a_type_or_a_schema_error(wanted, place, mark):
    text = str(wanted)
    place %= len(text)
    try:
        Type(text[:place] + mark + text[place + 1 :])
    except SchemaError:
        return


def a_value(data_type):
    """Some value of an Arrow type."""
    if pa.types.is_struct(data_type):
        return {field.name: a_value(field.type) for field in data_type}
    if pa.types.is_map(data_type):
        return [(a_value(data_type.key_type), a_value(data_type.item_type))]
    if pa.types.is_fixed_size_list(data_type):
        return [a_value(data_type.value_type)] * data_type.list_size
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_dictionary(data_type):
        value = a_value(data_type.value_type)
        return value if pa.types.is_dictionary(data_type) else [value]
    if pa.types.is_fixed_size_binary(data_type) and not pa.types.is_decimal(data_type):
        return b"x" * data_type.byte_width
    if "binary" in str(data_type):
        return b"x"
    return "x" if "string" in str(data_type) else Decimal(0) if pa.types.is_decimal(data_type) else 0


@settings(max_examples=60)
@given(wanted=schema_strategies.types)
def test_lance_keeps_every_type_and_a_value_of_it(tmp_path_factory, wanted):
    schema = pa.schema([types.field("x", wanted, doc="what it is", unit="px")])
    value = wanted.values[0] if wanted.values else a_value(wanted.arrow_type)
    data = pa.table({"x": pa.array([value, None], wanted.arrow_type)}, schema=schema)
    dataset = lance.write_dataset(data, tmp_path_factory.mktemp("t"), data_storage_version="2.2")
    field = dataset.schema.field("x")
    assert Type.from_field(field) == wanted
    assert (types.doc(field), types.unit(field)) == ("what it is", "px")
    assert dataset.to_table()["x"].to_pylist() == data["x"].to_pylist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imge", "unknown type 'imge'; did you mean 'image'"),
        ("categry", "did you mean 'category'"),
        ("int", "did you mean 'int32'"),
        ("double", "did you mean 'float64'"),
        ("datetime", "did you mean 'timestamp[us, UTC]'"),
        ("qqqq", "types are string, "),
        ("list<imge>", "unknown type 'imge'"),
        ("list<image>", "'image' is the type of a whole column"),
        ("list<int64", "expected '>' at position 11"),
        ("int8 int8", "expected the end at position 5"),
        ("timestamp", "as in 'timestamp[us]'"),
        ("timestamp[us, Europe/Berlim]", "unknown time zone 'Europe/Berlim'; did you mean 'Europe/Berlin'"),
        ("date32[day]", "expected the end"),
        ("duration[us, UTC]", "of a timestamp only"),
        ("decimal128(39, 2)", "precision should be between 1 and 38"),
        ("decimal128", "as in decimal128(10, 2)"),
        ("vector<float64>[3]", "use 'list<float64>[n]'"),
        ("vector<float32>", "as in vector<float32>[384]"),
        ("vector<float32>[0]", "expected a length"),
        ("list<int8 not null>[4]", "nullable"),
        ("struct<a: int8, a: int8>", "field 'a' is there twice"),
        ("struct<>", "a field name"),
        ("dictionary<string, int8>", "an integer type of the codes"),
        ("dictionary<int8, date32>", "strings, bytes or numbers"),
        ("list<string>[3]", "a list of fixed length holds items of fixed width; use 'list<string>'"),
        ("list<" * 2000, "nests too deep"),
        ("category", "needs its values"),
        ("", "expected a type"),
        (3, "not 3"),
    ],
)
def test_what_is_no_type_is_refused_with_what_to_write(text, message):
    with pytest.raises(SchemaError) as caught:
        Type(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("category", ("a", "b", "a")), "'a' is in the category twice"),
        (("category", ("a", 1)), "are strings, not 1"),
        (("category", "ab"), "must be a list"),
        (("int8", ("a",)), "values belong to a category"),
        (("int8", (), "blob"), "storage belongs to image, audio, video, blob"),
        (("text", (), "inline"), "not to text, whose only one is 'uncompressed'"),
        (("image", (), "uncompressed"), "storage is 'inline' or 'blob', not 'uncompressed'"),
        (("image", (), "inlin"), "did you mean 'inline'"),
    ],
)
def test_values_and_storage_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(SchemaError) as caught:
        Type(*arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "default", "arrow_type"),
    [
        ("image", "inline", pa.large_binary()),
        ("audio", "inline", pa.large_binary()),
        ("video", "blob", pa.large_binary()),
        ("blob", "blob", pa.large_binary()),
        ("text", None, pa.large_string()),
    ],
)
def test_media_know_their_kind_and_where_their_bytes_lie(kind, default, arrow_type):
    field = types.field("x", kind)
    assert field.type == arrow_type
    assert types.media_kind(field) == kind
    assert types.is_media(field)
    assert types.is_bytes_media(field) == (kind != "text")
    assert types.is_blob(field) == (default == "blob")
    assert Type(kind).storage == default


@pytest.mark.parametrize("kind", sorted(types.BYTES_MEDIA))
@pytest.mark.parametrize("storage", ["inline", "blob"])
def test_storage_can_be_chosen(kind, storage):
    assert types.is_blob(types.field("x", kind, storage=storage)) == (storage == "blob")


def test_text_is_compressed_unless_it_is_said():
    as_it_is = types.field("x", "text", storage="uncompressed")
    assert types.is_uncompressed(as_it_is)
    assert types.meaning(as_it_is) == "text, uncompressed"
    assert not types.is_uncompressed(types.field("x", "text"))
    assert not types.is_uncompressed(types.field("x", "string"))


def test_a_field_marked_by_hand_has_the_default_storage():
    assert types.is_blob(pa.field("x", pa.large_binary(), metadata={types.TYPE: b"video"}))
    assert not types.is_blob(pa.field("x", pa.large_binary(), metadata={types.TYPE: b"image"}))


@given(schema_strategies.plain_types)
def test_plain_columns_are_no_media(wanted):
    field = types.field("x", wanted)
    assert types.media_kind(field) is None
    assert not any(holds(field) for holds in (types.is_media, types.is_bytes_media, types.is_blob))
    assert types.category_values(field) is None


@given(schema_strategies.categories)
def test_category_values_keep_their_order(wanted):
    assert types.category_values(types.field("x", wanted)) == list(wanted.values)


def test_contradictory_fields_are_refused_by_name():
    marked = {types.TYPE: b"image"}
    with pytest.raises(SchemaError, match="column 'x' is marked image and holds int8; image needs large_binary"):
        Type.from_field(pa.field("x", pa.int8(), metadata=marked))
    with pytest.raises(SchemaError, match="column 'x' has lakehouse:type 'mesh', of a newer version"):
        Type.from_field(pa.field("x", pa.int8(), metadata={types.TYPE: b"mesh"}))
    with pytest.raises(SchemaError, match="column 'x': Arrow type month_day_nano_interval cannot be stored"):
        Type.from_field(pa.field("x", pa.month_day_nano_interval()))
    with pytest.raises(SchemaError, match="is no JSON list"):
        types.category_values(pa.field("x", pa.string(), metadata={types.TYPE: b"category", types.VALUES: b"["}))


@pytest.mark.parametrize("name", ["", "a.b", "phash__stamp", "_rowid", "_rowaddr", "_distance", "_score"])
def test_reserved_and_impossible_names_are_refused(name):
    with pytest.raises(SchemaError, match="column"):
        types.field(name, "int8")


def test_values_come_with_the_type_string_or_in_the_type_not_both():
    assert types.category_values(types.field("x", "category", values=["b", "a"])) == ["b", "a"]
    with pytest.raises(SchemaError, match="must be a list of strings, not 'ab'"):
        types.field("x", "category", values="ab")
    with pytest.raises(SchemaError, match="part of the Type already"):
        types.field("x", Type("category", ("a",)), values=["a"])


@pytest.mark.parametrize(
    ("field", "meaning"),
    [
        (types.field("x", "image"), "image, inline"),
        (types.field("x", "video"), "video, blob"),
        (types.field("x", "text"), "text"),
        (types.field("x", "vector<uint8>[8]"), "uint8[8]"),
        (types.field("x", "category", values=["a", "b"]), "category of 2"),
        (types.field("x", "int32", unit="px"), "int32 (px)"),
        (types.field("x", "list<string>"), "list<string>"),
        (pa.field("x", pa.month_day_nano_interval()), "month_day_nano_interval"),
    ],
)
def test_meaning_is_a_few_words_for_any_column(field, meaning):
    assert types.meaning(field) == meaning


def test_doc_unit_and_key_are_read_from_the_field():
    field = types.field("x", "int32", doc="how wide", unit="px")
    assert (types.doc(field), types.unit(field)) == ("how wide", "px")
    assert (types.doc(pa.field("x", pa.int8())), types.unit(pa.field("x", pa.int8()))) == (None, None)
    assert types.key_of(pa.schema([field])) is None
    assert types.key_of(pa.schema([field, pa.field("id", pa.string(), metadata={types.KEY: b"true"})])) == "id"
