"""Hypothesis strategies for types, columns and schemas, shared by the tests of those floors."""

import pyarrow as pa
from hypothesis import strategies as st

from lakehouse.schema import Column, Schema
from lakehouse.types import BYTES_MEDIA, Type

_UNITS = ("s", "ms", "us", "ns")
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_PLAIN = [*_INTEGERS, "string", "large_string", "binary", "large_binary", "bool", "date32", "date64"]
_PLAIN += ["float16", "float32", "float64", "binary[16]"]

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
names = st.from_regex(r"[a-z][a-z0-9_ äß-]{0,7}", fullmatch=True).filter(lambda name: not name.endswith("__stamp"))

leaves = st.one_of(
    st.sampled_from(_PLAIN),
    st.builds("{}[{}]".format, st.sampled_from(["timestamp", "duration"]), st.sampled_from(_UNITS)),
    st.builds("timestamp[{}, {}]".format, st.sampled_from(_UNITS), st.sampled_from(["UTC", "Europe/Berlin", "+02:00"])),
    st.sampled_from(["time32[s]", "time32[ms]", "time64[us]", "time64[ns]"]),
    st.builds(lambda p, s: f"decimal128({p}, {min(p, s)})", st.integers(1, 38), st.integers(0, 9)),
    st.builds(lambda p, s: f"decimal256({p}, {min(p, s)})", st.integers(1, 76), st.integers(0, 9)),
    st.builds("dictionary<{}, {}>".format, st.sampled_from(_INTEGERS), st.sampled_from(["string", "int64"])),
    st.builds("vector<{}>[{}]".format, st.sampled_from(["float32", "float16", "uint8"]), st.integers(1, 4096)),
)
leaf_types = leaves.map(lambda text: Type(text).arrow_type)


fixed_width_types = leaf_types.filter(lambda data_type: _is_fixed_width(data_type))


def _is_fixed_width(data_type):
    if pa.types.is_fixed_size_list(data_type):
        return True
    return not (pa.types.is_dictionary(data_type) or str(data_type).endswith(("string", "binary")))


def _nested(inner):
    item = st.builds(lambda t, nullable: pa.field("item", t, nullable), inner, st.booleans())
    fields = st.lists(st.tuples(words, inner, st.booleans()), min_size=1, max_size=3, unique_by=lambda f: f[0])
    value = item.map(lambda field: field.with_name("value"))
    keys = st.sampled_from([pa.string(), pa.int64()])
    return st.one_of(
        item.map(pa.list_),
        item.map(pa.large_list),
        st.builds(pa.list_, fixed_width_types, st.integers(1, 9)),
        fields.map(lambda found: pa.struct([pa.field(*field) for field in found])),
        st.builds(pa.map_, keys, value),
    )


arrow_types = st.recursive(leaf_types, _nested, max_leaves=4)
"""Every Arrow type a type string stands for."""

plain_types = arrow_types.map(lambda data_type: Type.from_field(pa.field("x", data_type)))
media_types = st.one_of(
    st.builds(Type, st.sampled_from(sorted(BYTES_MEDIA)), storage=st.sampled_from([None, "inline", "blob"])),
    st.builds(Type, st.just("text"), storage=st.sampled_from([None, "uncompressed"])),
)
categories = st.lists(words, min_size=1, max_size=4, unique=True).map(lambda values: Type("category", tuple(values)))
types = st.one_of(plain_types, media_types, categories)

said = st.none() | words
columns = st.builds(Column, names, types, st.booleans(), said, said)
key_columns = st.builds(Column, names, st.sampled_from(["string", "int64", "uint32", "binary"]), st.just(False), said)


@st.composite
def schemas(draw):
    """Schemas with nothing left to change, with and without a key."""
    found = draw(st.lists(columns, min_size=1, max_size=5, unique_by=lambda column: column.name))
    key = draw(st.none() | key_columns.filter(lambda column: column.name not in {c.name for c in found}))
    place = draw(st.integers(0, len(found)))
    if key is not None:
        found.insert(place, key)
    return Schema(draw(words.filter(bool)), key and key.name, found)
