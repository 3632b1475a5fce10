"""Texts stored as they are: the batches are those of texts that Lance compressed."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse.loader import Loader, LoaderOptions

NUM_ROWS = 450
LETTERS = np.array(list("e \nß漢🎉"))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Make two tables of the same rows, in fragments that lost some; `short` are texts that Lance puts together."""
    rng = np.random.default_rng(0)
    bodies = ["".join(rng.choice(LETTERS, size)) for size in rng.integers(0, 1_500, NUM_ROWS)]
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    for name, storage in {"compressed": None, "uncompressed": "uncompressed"}.items():
        schema = pa.schema(
            [pa.field("n", pa.int64())] + [types.field(each, "text", storage=storage) for each in ("body", "short")]
        )
        table = lake.create_table(name, schema=schema)
        for part in np.array_split(np.arange(NUM_ROWS), 3):
            rows = [{"n": n, "body": bodies[n], "short": f"row {n}"} for n in part.tolist()]
            table.add(pa.Table.from_pylist(rows, schema), progress=False)
        table.delete("n % 7 = 3")
    return lake


def loader(lake, name, **how):
    version = lake.open_table(name).version
    return Loader(lake.open_table(name, version=version).snapshot(), LoaderOptions(**how), pin=False)


def plain(batch):
    return {name: cells if isinstance(cells, list) else cells.tolist() for name, cells in batch.items()}


HOW = st.fixed_dictionaries(
    {
        "columns": st.lists(st.sampled_from(["n", "body", "short", "_rowid"]), min_size=1, unique=True),
        "shuffle": st.booleans(),
    },
    optional={
        "where": st.sampled_from(["n % 2 = 0", "n > 200", "length(body) > 700"]),
        "weights": st.just("n"),
        "drop_last": st.sampled_from([True, False, "uneven"]),
        "on_bad_rows": st.sampled_from(["raise", "substitute"]),
        "transform": st.just(dict),
        "prefetch_batches": st.just(0),
    },
)


@settings(max_examples=8)
@given(how=HOW, batch_size=st.integers(16, 200), part=st.sampled_from([(0, 1), (1, 2)]))
def test_batches_are_those_of_compressed_texts(lake, how, batch_size, part):
    how |= {"batch_size": batch_size, "rank": part[0], "world_size": part[1]}
    found, expected = ([plain(batch) for batch in loader(lake, name, **how)] for name in ("uncompressed", "compressed"))
    assert found == expected


def test_blocks_hold_them_too(lake):
    table = lake.open_table("compressed")
    expected = dict(zip(*(table.to_arrow()[name].to_pylist() for name in ("n", "body")), strict=True))
    found = loader(lake, "uncompressed", columns=["n", "body"], batch_size=32, shuffle="block", drop_last="uneven")
    rows = [row for batch in found for row in zip(batch["n"].tolist(), batch["body"], strict=True)]
    assert len(rows) == len(expected)
    assert dict(rows) == expected


@pytest.mark.parametrize("where", [None, "n > 100"])  # with one, the rows that are kept in memory are read by their ids
def test_a_resumed_loader_goes_on_with_them(lake, where):
    how = {"columns": ["n", "body"], "batch_size": 16, "where": where}
    whole = [plain(batch) for batch in loader(lake, "compressed", **how)]
    first = loader(lake, "uncompressed", **how)
    running = iter(first)
    seen = [plain(next(running)) for _ in range(9)]
    again = loader(lake, "uncompressed", **how)
    again.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert seen + [plain(batch) for batch in again] == whole


def test_what_is_read_is_counted_in_bytes(lake):
    ours = loader(lake, "uncompressed", columns=["body"], batch_size=64, drop_last="uneven")
    texts = [text for batch in ours for text in batch["body"]]
    assert ours.stats().nbytes_read == pytest.approx(sum(len(text.encode()) for text in texts), rel=0.2)


def test_the_choice_is_in_the_schema_and_lasts(lake, tmp_path):
    schema = 'name = "pets"\n[columns]\nbody = { type = "text", storage = "uncompressed" }\n'
    file = tmp_path / "pets.toml"
    file.write_text(schema)
    table = lh.connect(tmp_path / "lake").create_table("pets", schema=file)
    table.add(pa.table({"body": pa.array(["no " * 1_000] * 40, pa.large_string())}), progress=False)
    table.compact()
    assert types.is_uncompressed(table.schema.field("body"))
    stored = b"".join(path.read_bytes() for path in Path(table.uri, "data").iterdir())
    assert b"no " * 1_000 in stored
    assert (
        lake.sql("SELECT count(*) FROM uncompressed WHERE body LIKE '%漢%'").fetchall()
        == lake.sql("SELECT count(*) FROM compressed WHERE body LIKE '%漢%'").fetchall()
    )
