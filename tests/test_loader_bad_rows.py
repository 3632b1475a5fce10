"""Rows that cannot be handed out: refused by name, masked, or substituted, and a rank never gets shorter."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import DataError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.forms.sizes import Resize
from tests.media_files import picture

NUM_ROWS = 48
CUT, NO_VECTOR, HOLE, NO_PICTURE, STRANGE = 5, 11, 17, 23, 29  # rows that are bad, and how
BAD = {CUT, NO_VECTOR, HOLE, NO_PICTURE, STRANGE}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Pictures, vectors and categories of which five rows are bad, each in its way."""
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    images = [picture(seed=row, width_px=20 + row, height_px=16) for row in range(NUM_ROWS)]
    images[CUT], images[NO_PICTURE] = images[CUT][:200], None
    vectors: list[list[float | None] | None] = [[float(row), 1.0, 2.0] for row in range(NUM_ROWS)]
    vectors[NO_VECTOR], vectors[HOLE] = None, [1.0, None, 2.0]
    words = ["cat" if row % 2 else "dog" for row in range(NUM_ROWS)]
    fields = [
        types.field("image", "image"),
        pa.field("vector", pa.list_(pa.float32(), 3)),
        types.field("pet", "category", values=["cat", "dog"]),
        pa.field("x", pa.int64()),
    ]
    table = lake.create_table("rows", schema=pa.schema(fields))
    columns = [pa.array(images, pa.large_binary()), vectors, words, range(NUM_ROWS)]
    table.add(pa.table(dict(zip(["image", "vector", "pet", "x"], columns, strict=True))))
    return lake.open_table("rows", version=table.version).snapshot()


def strange(row):
    if int(row["x"]) == STRANGE:
        raise OSError("strange")
    return dict(row)


def loader(rows, **options):
    common = {"decode": {"image": Resize(8, 8)}, "transform": strange, "batch_size": 12, "on_bad_rows": "substitute"}
    return Loader(rows, LoaderOptions(**common | options))


def xs(batches):
    return [x for batch in batches for x in batch["x"].tolist()]


def test_each_kind_of_bad_row_is_masked_and_counted(rows):
    one = loader(rows, on_bad_rows="mask")
    batches = list(one)
    order = xs(Loader(rows, LoaderOptions(columns=["x"], batch_size=12)))
    bad = [bad for batch in batches for bad in batch["_is_bad"].tolist()]
    assert [len(batch["x"]) for batch in batches] == [12] * 4
    assert {x for x, is_bad in zip(order, bad, strict=True) if is_bad} == BAD
    assert [x for x, is_bad in zip(xs(batches), bad, strict=True) if not is_bad] == [x for x in order if x not in BAD]
    assert one.stats().num_bad_rows == len(BAD)


def test_each_kind_of_bad_row_is_named_unless_something_is_done_about_it(rows):
    for row, error, said in (
        (CUT, DataError, "column 'image' of row id 5"),
        (NO_VECTOR, DataError, "column 'vector' is NULL in row id 11"),
        (HOLE, DataError, "column 'vector' holds a NULL in row id 17.*on_bad_rows="),
        (NO_PICTURE, DataError, "column 'image' of row id 23 is NULL"),
        (STRANGE, OSError, "strange"),
    ):
        with pytest.raises(error, match=said):
            list(loader(rows, on_bad_rows="raise", where=f"x = {row}", batch_size=1))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(0, 3), st.integers(0, 2))
def test_what_stands_in_for_a_bad_row_is_the_same_on_any_topology_and_after_a_resume(rows, world_size, stop, prefetch):
    order = xs(Loader(rows, LoaderOptions(columns=["x"], batch_size=12)))
    wanted = [next(y for y in (order + order)[at:] if y not in BAD) for at in range(NUM_ROWS)]
    options = {"batch_size": 12 // world_size, "world_size": world_size, "prefetch_batches": prefetch}
    first = [loader(rows, rank=rank, **options) for rank in range(world_size)]
    seen = [xs(together) for _, *together in zip(range(stop), *first, strict=False)]
    resumed = [loader(rows, rank=rank, **options) for rank in range(world_size)]
    for one in resumed:
        one.load_state_dict(first[0].state_dict())
    seen += [xs(together) for together in zip(*resumed, strict=True)]
    assert sum(seen, []) == wanted
    counted = [one.stats().num_bad_rows for one in first + resumed]
    assert sum(counted) >= len(BAD)


def test_a_null_within_a_batch_spoils_no_row_beside_it(rows):
    one = loader(
        rows, columns=["vector", "x"], transform=None, decode={}, shuffle=False, batch_size=24, on_bad_rows="mask"
    )
    batch = next(iter(one))
    assert [row for row, bad in enumerate(batch["_is_bad"].tolist()) if bad] == [NO_VECTOR, HOLE]
    assert batch["vector"][12].tolist() == [12.0, 1.0, 2.0]


def hashes(batches):
    """A hash of each row's tensors, by its number."""
    return {
        x: hashlib.sha256(b"".join(batch[key][i].contiguous().numpy().tobytes() for key in ("image", "r"))).hexdigest()
        for batch in batches
        for i, x in enumerate(batch["x"].tolist())
    }


def augmented(row, rng):
    """Crop anywhere and turn half of them."""
    top, left = rng.integers(0, 3, 2)
    image = row["image"][:, top : top + 6, left : left + 6]
    return {"image": image.flip(-1) if rng.random() < 0.5 else image, "x": row["x"], "r": torch.tensor(rng.random(4))}


def test_random_augmentation_gives_the_same_tensors_after_a_resume_and_on_any_topology(rows):
    options = {"where": f"x NOT IN ({', '.join(map(str, BAD))})", "transform": augmented, "drop_last": False}
    alone = loader(rows, **options)
    first, second = hashes(alone), hashes(alone)
    assert len(first) == NUM_ROWS - len(BAD)
    assert all(first[x] != second[x] for x in first)
    for world_size in (2, 3):
        ranks = [
            loader(rows, rank=r, world_size=world_size, **options, batch_size=12 // world_size)
            for r in range(world_size)
        ]
        assert {x: each for one in ranks for x, each in hashes(one).items()} == first
    for stop in range(1, 4):
        one = loader(rows, **options)
        seen = hashes(batch for _, batch in zip(range(stop), one, strict=False))
        resumed = loader(rows, **options, prefetch_batches=0)
        resumed.load_state_dict(one.state_dict())
        assert seen | hashes(resumed) == first


def test_batches_of_no_rows_that_are_left_are_not_made(rows):
    one = loader(rows, where="x < 0")
    assert (len(one), list(one)) == (0, [])


def test_a_list_of_different_lengths_with_a_hole_is_a_bad_row(lake):
    table = lake.create_table("ragged", data=pa.table({"x": [0, 1, 2], "v": [[1], [2, None], []]}))
    (batch,) = Loader(table.snapshot(), LoaderOptions(batch_size=3, shuffle=False, on_bad_rows="substitute"))
    assert [part.tolist() for part in batch["v"]] == [[1], [], []]
    assert batch["x"].tolist() == [0, 2, 2]


def test_writing_to_a_batch_changes_nothing_that_is_read_later(lake):
    table = lake.create_table("numbers", data=pa.table({"x": np.arange(10), "v": np.arange(10.0)}))
    one = Loader(table.snapshot(), LoaderOptions(batch_size=5, shuffle=False))
    for _ in range(3):
        seen = []
        for batch in one:
            seen += batch["v"].tolist()
            batch["v"].fill_(-1)  # a view of what was read
        assert seen == list(map(float, range(10)))
