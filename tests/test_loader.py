"""Batches of real tables: every row once, the same on any topology, resumed at any step."""

import json
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse import reads, types
from lakehouse.errors import (
    ColumnNotFoundError,
    DataError,
    InvalidArgumentError,
    MediaError,
    VersionNotFoundError,
)
from lakehouse.loader import Loader, LoaderOptions, source
from lakehouse.loader.forms.footprint import INDEX_NBYTES
from lakehouse.loader.forms.numpy import NumpyArrays
from lakehouse.loader.forms.sizes import Resize
from lakehouse.loader.order.blocks import HELD
from lakehouse.media.codecs import decode_rgb, encode_image

NUM_ROWS = 97


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    x = np.arange(NUM_ROWS)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(x, 2), pa.float32()), 2)
    data = pa.table({"x": x, "name": [f"n{i}" for i in x], "vector": vectors})
    table = lake.create_table("numbers", data=data.slice(0, 40))
    table.add(data.slice(40))
    table.delete("x = 50")  # a row with a deletion before it is at another offset than its row id
    table.add(data.slice(50, 1))
    return lake.open_table("numbers", version=table.version).snapshot()


def loader(snapshot, **options):
    return Loader(snapshot, LoaderOptions(**options))


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


def test_a_batch_holds_tensors_and_lists_that_belong_together(numbers):
    for batch in loader(numbers, batch_size=16):
        assert {k: type(v) for k, v in batch.items()} == {"x": torch.Tensor, "name": list, "vector": torch.Tensor}
        assert batch["x"].dtype == torch.int64
        assert (batch["vector"].shape, batch["vector"].dtype) == ((16, 2), torch.float32)
        assert batch["vector"][:, 1].tolist() == batch["x"].tolist()
        assert batch["name"] == [f"n{x}" for x in batch["x"].tolist()]


def test_without_torch_batches_are_numpy_arrays(numbers, monkeypatch):
    monkeypatch.setattr("lakehouse.loader.forms.arrays.find_spec", lambda name: None)
    plain = loader(numbers, batch_size=16)
    assert plain.batch_type == "numpy"
    assert [batch["x"].tolist() for batch in plain] == xs(loader(numbers, batch_size=16))
    assert isinstance(next(iter(plain))["vector"], np.ndarray)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("drop_last", "num_seen"), [(True, 96), (False, 97)])
def test_an_epoch_holds_each_row_once(numbers, shuffle, drop_last, num_seen):
    batches = xs(loader(numbers, columns=["x"], batch_size=16, shuffle=shuffle, drop_last=drop_last))
    flat = sum(batches, [])
    assert len(batches) == len(loader(numbers, batch_size=16, drop_last=drop_last))
    assert len(flat) == len(set(flat)) == num_seen
    assert (flat == [*range(50), *range(51, NUM_ROWS), 50][:num_seen]) == (not shuffle)


def test_where_and_columns_choose(numbers):
    batches = list(loader(numbers, columns=["x"], where=("x >= $low", {"low": 90}), batch_size=4, drop_last=False))
    assert sorted(sum(xs(batches), [])) == list(range(90, NUM_ROWS))
    assert all(list(batch) == ["x"] for batch in batches)


@pytest.mark.parametrize(("where", "num_rows"), [("x < 0", 0), ("x = 3", 1), ("x < 3", 3)])
def test_few_or_no_rows_give_few_or_no_batches(numbers, where, num_rows):
    kept = loader(numbers, where=where, batch_size=8, drop_last=False)
    assert [len(batch["x"]) for batch in kept] == ([num_rows] if num_rows else [])
    dropped = loader(numbers, where=where, batch_size=8)
    assert (len(dropped), list(dropped)) == (0, [])


def test_leaving_all_rows_out_is_said(numbers, caplog):
    loader(numbers, where="x < 3", batch_size=8)
    assert "a global batch of 8 takes more rows than there are (3)" in caplog.text


def test_an_epoch_without_rows_says_why(numbers, caplog):
    loader(numbers, where="x > 1000")
    assert "x > 1000' matches none of" in caplog.text


def test_a_loader_is_not_wrapped_in_a_dataloader(numbers):
    with pytest.raises(InvalidArgumentError, match="torch_iterable"):
        next(iter(torch.utils.data.DataLoader(loader(numbers))))


def test_row_ids_can_be_asked_for(numbers):
    batch = next(iter(loader(numbers, columns=["_rowid", "x"], batch_size=32)))
    rows = reads.take_row_ids(numbers, batch["_rowid"].numpy(), ["x"])
    assert rows["x"].to_pylist() == batch["x"].tolist()


@pytest.mark.parametrize("prefetch_batches", [0, 1, 3, 50])
def test_prefetching_changes_nothing_but_the_time(numbers, prefetch_batches):
    assert xs(loader(numbers, batch_size=5, prefetch_batches=prefetch_batches)) == xs(loader(numbers, batch_size=5))


def test_no_more_is_under_way_than_was_allowed(numbers):
    begun = []

    def transform(row):
        return begun.append(int(row["x"])) or row

    batches = iter(loader(numbers, columns=["x"], batch_size=4, prefetch_batches=2, transform=transform))
    for received, _ in enumerate(batches, 1):
        assert len(begun) <= 4 * (received + 2)


def test_threads_end_with_the_iteration(numbers):
    def pools():
        return {thread for thread in threading.enumerate() if thread.name.startswith("lakehouse-")}

    before = pools()
    batches = iter(loader(numbers, batch_size=4))
    next(batches)
    assert pools() - before
    del batches
    assert not pools() - before


# Order: topology, epochs, resume


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_global_batches_are_the_same_on_any_topology_after_any_stops(numbers, data):
    """A chain of runs on random topologies, each stopped at a random step, sees what one rank sees in one run."""
    common = {"columns": ["x"], "seed": 5, "drop_last": data.draw(st.booleans())}
    if data.draw(st.booleans()):
        # Two rows of each of 12 blocks of 4 rows: two generations, and one row in which nothing is left to mix.
        common |= {"shuffle": "block", "shuffle_memory": 2 * HELD * 24 * (8 + INDEX_NBYTES)}
    alone = loader(numbers, batch_size=24, **common)
    expected = xs(alone) + xs(alone)
    seen, state = [], None
    while len(seen) < len(expected):
        world_size = data.draw(st.sampled_from([1, 2, 3, 4, 6, 8, 12]))
        prefetch = data.draw(st.integers(0, 5))
        steps = data.draw(st.integers(1, 4))
        ranks = [
            loader(
                numbers, batch_size=24 // world_size, rank=r, world_size=world_size, prefetch_batches=prefetch, **common
            )
            for r in range(world_size)
        ]
        for one in ranks:
            if state is not None:
                one.load_state_dict(json.loads(state))
        for _, together in zip(range(steps), zip(*ranks, strict=True)):
            assert len({len(batch["x"]) for batch in together}) == 1
            seen.append([x for batch in together for x, pad in _rows(batch) if not pad])
        states = {json.dumps(one.state_dict()) for one in ranks}
        assert len(states) == 1
        state = states.pop()
        assert len(state) < 600
    assert seen[: len(expected)] == expected


def _rows(batch):
    pads = batch["_is_pad"].tolist() if "_is_pad" in batch else [False] * len(batch["x"])
    return zip(batch["x"].tolist(), pads, strict=True)


def test_the_state_counts_what_was_received_not_what_was_read_ahead(numbers):
    one = loader(numbers, batch_size=8, prefetch_batches=5)
    for received, _ in enumerate(one, 1):
        assert one.state_dict()["num_samples"] == 8 * received


def test_an_iteration_of_what_was_left_is_not_counted(numbers):
    one = loader(numbers, columns=["x"], batch_size=8)
    start = one.state_dict()
    for leave in (lambda: one.set_epoch(5), lambda: one.load_state_dict(start)):
        under_way = iter(one)
        next(under_way)
        leave()
        state = one.state_dict()
        next(under_way)
        assert one.state_dict() == state
        under_way.close()


def test_epochs_differ_and_come_by_themselves_or_by_name(numbers):
    one = loader(numbers, columns=["x"], batch_size=8)
    epochs = [xs(one) for _ in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    one.set_epoch(1)
    assert xs(one) == epochs[1]
    assert xs(one) == epochs[2]


def test_seeds_differ(numbers):
    assert xs(loader(numbers, batch_size=8)) != xs(loader(numbers, batch_size=8, seed=1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 4}, "global_batch_size 8, this loader has 4"),
        ({"seed": 1}, "seed 0, this loader has 1"),
        ({"shuffle": False}, "shuffle exact, this loader has none"),
        ({"drop_last": False}, "drop_last True, this loader has False"),
        ({"where": "x < 90"}, "97 rows of .*numbers.* there are 90"),
    ],
)
def test_a_state_of_other_batches_is_refused_with_both_values(numbers, change, said):
    state = loader(numbers, batch_size=8).state_dict()
    with pytest.raises(InvalidArgumentError, match=said):
        loader(numbers, **({"batch_size": 8} | change)).load_state_dict(state)


@pytest.mark.parametrize(
    "state", [{}, {"epoch": 1}, {"format": 3}, {"order": 99}, {"format": "2"}, {"blocks": {"size": 1}}, None, "{}"]
)
def test_what_is_no_state_is_refused(numbers, state):
    with pytest.raises(InvalidArgumentError, match="state"):
        loader(numbers).load_state_dict(state)


def test_a_state_with_a_value_of_another_type_is_refused(numbers):
    one = loader(numbers)
    for change in ({"epoch": 1.5}, {"version": None}, {"selection": None}):
        with pytest.raises(InvalidArgumentError, match="no state.*" + next(iter(change))):
            one.load_state_dict(one.state_dict() | change)


def test_a_state_reopens_its_version(lake):
    table = lake.create_table("grows", data=pa.table({"x": range(40)}))
    one = loader(table.snapshot(), batch_size=4)
    rest = [batch["x"].tolist() for batch in one]
    other = loader(table.snapshot(), batch_size=4)
    for _ in zip(range(3), other):
        pass
    state = other.state_dict()
    table.add(pa.table({"x": range(40, 80)}))
    table.delete("x < 10")
    resumed = loader(table.snapshot(), batch_size=4)
    assert len(resumed) == 17
    resumed.load_state_dict(state)
    assert len(resumed) == 10
    assert xs(resumed) == rest[3:]


def test_a_state_whose_version_is_gone_says_so(lake):
    table = lake.create_table("grows", data=pa.table({"x": range(40)}))
    one = loader(table.snapshot(), batch_size=4)
    state = one.state_dict() | {"version": 99}
    with pytest.raises(VersionNotFoundError, match="99"):
        one.load_state_dict(state)


def test_writers_do_not_move_a_running_loader(lake):
    table = lake.create_table("busy", data=pa.table({"x": range(200)}))
    seen = []
    for step, batch in enumerate(loader(table.snapshot(), batch_size=10)):
        seen += batch["x"].tolist()
        table.add(pa.table({"x": [1000 + step]}))
        table.delete(f"x = {step}")
    assert sorted(seen) == list(range(200))


def test_several_ranks_need_one_version(lake):
    table = lake.create_table("pets", data=pa.table({"x": range(40)}))
    with pytest.raises(InvalidArgumentError, match=f"version={table.version}"):
        loader(table.snapshot(), rank=0, world_size=2)
    pinned = lake.open_table("pets", version=table.version).snapshot()
    assert len(loader(pinned, rank=0, world_size=2, batch_size=5)) == 4


# Columns to tensors


def test_codes_are_the_same_in_every_fragment(lake):
    field = types.field("split", "category", values=["train", "val", "test"])
    schema = pa.schema([field, pa.field("x", pa.int64())])
    table = lake.create_table("splits", schema=schema)
    words = []
    for words_here in (["val", "val"], ["test", "train"], ["train", "test", "val"]):  # another dictionary each
        table.add(pa.table({"split": words_here, "x": range(len(words), len(words) + len(words_here))}))
        words += words_here
    one = loader(table.snapshot(), batch_size=3, drop_last=False)
    assert one.categories == {"split": ("train", "val", "test")}
    for batch in one:
        assert batch["split"].dtype == torch.int64
        got = [one.categories["split"][code] for code in batch["split"].tolist()]
        assert got == [words[x] for x in batch["x"].tolist()]


def test_images_are_uint8_channels_first(pets):
    one = loader(pets.snapshot(), columns=["image", "id"], batch_size=4)
    for batch in one:
        assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 16, 24), torch.uint8)
        stored = pets.get(batch["id"], columns=["image"])["image"].to_pylist()
        for pixels, data in zip(batch["image"], stored, strict=True):
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), decode_rgb(data))


@pytest.fixture
def uneven(lake):
    """Pictures of two sizes, one that is broken, one label that is NULL."""
    rng = np.random.default_rng(0)
    sizes = [(16, 24)] * 6 + [(16, 8)] * 6
    images = [encode_image(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    images[4] = b"no picture"
    fields = [types.field("image", "image"), pa.field("label", pa.int32()), pa.field("caption", pa.string())]
    table = lake.create_table("uneven", schema=pa.schema(fields))
    labels = [None if number == 7 else number for number in range(12)]
    table.add(pa.table([images, labels, [None] * 12], schema=pa.schema(fields)))
    return table.snapshot()


def test_images_of_different_sizes_ask_for_a_transform(uneven):
    with pytest.raises(DataError, match=r"'image' has shape .* row id \d+ and .*transform="):
        list(loader(uneven, columns=["image"], where="label != 4", batch_size=11, drop_last=False))


def test_a_transform_can_bring_them_to_one_size(uneven):
    def shrink(row):
        return {"pixels": row["image"][:, :8, :8], "label": row["label"]}

    one = loader(
        uneven,
        columns=["image", "label"],
        where="label != 4 OR label IS NULL",
        batch_size=5,
        transform=shrink,
        on_missing="skip",
    )
    batches = list(one)
    assert [tuple(batch["pixels"].shape) for batch in batches] == [(5, 3, 8, 8)] * 2
    assert batches[0]["label"].dtype == torch.int32


def test_collate_fn_gets_the_rows_and_makes_the_batch(uneven):
    def collate_fn(rows):
        return [tuple(row["image"].shape) for row in rows]

    one = loader(uneven, columns=["image", "label"], where="label != 4", batch_size=10, collate_fn=collate_fn)
    assert sorted(next(iter(one))) == [(3, 16, 8)] * 5 + [(3, 16, 24)] * 5


def test_a_missing_number_is_refused_or_left_out(uneven):
    with pytest.raises(DataError, match=r"'label' is NULL in row id 7"):
        list(loader(uneven, columns=["label"], batch_size=12))
    assert len(loader(uneven, columns=["label"], batch_size=1, on_missing="skip")) == 11
    assert len(loader(uneven, columns=["caption"], batch_size=1, on_missing="skip")) == 12


def crop(row):
    return row | {"image": row["image"][:, :8, :8]}


def test_a_broken_picture_is_named(uneven):
    with pytest.raises(MediaError, match=r"column 'image' of row id 4: .*on_bad_rows="):
        list(loader(uneven, columns=["image"], batch_size=4, transform=crop))


def test_a_picture_that_is_not_there_is_a_bad_row(lake):
    table = lake.create_table("gaps", schema=pa.schema([types.field("image", "image")]))
    table.add([{"image": encode_image(np.zeros((2, 2, 3), np.uint8))}, {"image": None}])
    with pytest.raises(MediaError, match="column 'image' of row id 1 is NULL.*on_bad_rows="):
        list(loader(table.snapshot(), batch_size=2, on_missing="skip"))
    (batch,) = loader(table.snapshot(), batch_size=2, on_bad_rows="mask")
    assert sorted(batch["_is_bad"].tolist()) == [False, True]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_a_bad_row_is_substituted_by_the_next_one_of_the_global_order(uneven, world_size):
    snapshot = replace(uneven, pinned=True)
    options = {
        "columns": ["_rowid", "image"],
        "batch_size": 12 // world_size,
        "transform": crop,
        "on_bad_rows": "substitute",
    }
    ranks = [loader(snapshot, rank=r, world_size=world_size, **options) for r in range(world_size)]
    got = [row_id for one in ranks for batch in one for row_id in batch["_rowid"].tolist()]
    order = [i for batch in loader(snapshot, columns=["_rowid"], batch_size=12) for i in batch["_rowid"].tolist()]
    at = order.index(4)
    assert got == [*order[:at], order[(at + 1) % 12], *order[at + 1 :]]
    assert sum(one.stats().num_bad_rows for one in ranks) == 1


def test_the_first_bad_rows_of_an_epoch_are_logged(numbers, caplog):
    def one_in_ten(row):
        if row["x"] % 10:
            raise ValueError(row)
        return row

    assert list(loader(numbers, batch_size=97, transform=one_in_ten, on_bad_rows="mask"))
    assert caplog.text.count("bad row, row id") == 5
    assert "counted in stats()" in caplog.text


def test_a_bad_row_is_masked(uneven):
    one = loader(uneven, columns=["_rowid", "image"], batch_size=12, transform=crop, on_bad_rows="mask")
    batch = next(iter(one))
    order = next(iter(loader(uneven, columns=["_rowid"], batch_size=12)))["_rowid"].tolist()
    assert batch["_is_bad"].tolist() == [row_id == 4 for row_id in order]
    assert batch["image"].shape == (12, 3, 8, 8)


def test_rows_that_are_all_bad_end_it(numbers):
    def broken(row):
        raise OSError("never works")

    for on_bad_rows in ("mask", "substitute", "raise"):
        with pytest.raises(OSError, match="never works") as caught:
            list(loader(numbers, batch_size=8, transform=broken, on_bad_rows=on_bad_rows))
        assert "in the transform of row id" in caught.value.__notes__[0]


# Transforms


def test_a_transform_gets_a_row_and_its_values_are_put_together(numbers):
    def transform(row):
        assert isinstance(row["vector"], torch.Tensor)
        return {
            "double": row["vector"] * 2,
            "x": row["x"],
            "float": float(row["x"]),
            "name": row["name"].upper(),
            "pair": (1, 2),
        }

    batch = next(iter(loader(numbers, batch_size=4, transform=transform)))
    assert batch["double"].shape == (4, 2)
    assert batch["float"].tolist() == batch["x"].tolist()
    assert batch["name"] == [f"N{x}" for x in batch["x"].tolist()]
    assert batch["pair"] == [(1, 2)] * 4


def test_random_numbers_depend_on_the_position_alone(numbers):
    def transform(row, rng):
        return {"x": row["x"], "r": rng.random()}

    def draws(batches):
        return {x: r for batch in batches for x, r in zip(batch["x"].tolist(), batch["r"].tolist(), strict=True)}

    common = {"columns": ["x"], "transform": transform, "drop_last": False}
    alone = loader(numbers, batch_size=24, **common)
    first, second = draws(alone), draws(alone)
    assert len(set(first.values())) == NUM_ROWS
    assert first != second
    ranks = [loader(numbers, batch_size=8, rank=r, world_size=3, prefetch_batches=r, **common) for r in range(3)]
    assert {x: r for one in ranks for x, r in draws(one).items()} == first


@pytest.mark.parametrize(
    ("transform", "error", "said"),
    [
        (lambda row: 3, InvalidArgumentError, "returned int"),
        (lambda row: {str(int(row["x"])): 1}, DataError, "give all rows the same"),
        (lambda row: {"a": row["vector"][: 1 + int(row["x"]) % 2]}, DataError, "'a' has shape"),
    ],
)
def test_a_transform_that_gives_no_rows_that_fit_is_told(numbers, transform, error, said):
    with pytest.raises(error, match=said):
        list(loader(numbers, batch_size=8, transform=transform))


# Arguments


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"batch_size": True}, "batch_size is True"),
        ({"prefetch_batches": -1}, "prefetch_batches is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 2**63}, "seed is"),
        ({"shuffle": "exakt"}, "'exakt'"),
        ({"shuffle": "block", "shuffle_memory": 0}, "shuffle_memory is 0"),
        ({"shuffle": "block", "shuffle_memory": "much"}, "shuffle_memory is 'much'"),
        ({"shuffle_memory": "1GB"}, "shuffle is True"),
        ({"drop_last": "pad"}, "drop_last is True, False or 'uneven'"),
        ({"drop_last": 1}, "drop_last is True, False or 'uneven'"),
        ({"shuffle": 1}, "shuffle is"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"on_bad_rows": "skip"}, "'raise', 'mask', 'substitute'"),
        ({"on_missing": "null"}, "'raise', 'skip'"),
        ({"rank": 0}, "go together"),
        ({"rank": 2, "world_size": 2}, "rank is 2; it is a whole number, 0 to 1"),
        ({"columns": "x"}, r"columns=\['x'\]"),
        ({"columns": []}, "a list of names"),
        ({"columns": [None]}, "a list of names"),
        ({"decode": Resize(3, 3)}, "sizes by column"),
        ({"packing": "tokens"}, r"lh\.Packing"),
        ({"collate_fn": 5}, "a function"),
    ],
)
def test_arguments_out_of_their_range_are_refused(options, said):
    with pytest.raises(InvalidArgumentError, match=said):
        LoaderOptions(**options)


def test_an_unknown_column_is_named(numbers):
    with pytest.raises(ColumnNotFoundError, match="'nmae'.*'name'"):
        loader(numbers, columns=["nmae"])


def test_an_epoch_is_a_whole_number(numbers):
    with pytest.raises(InvalidArgumentError, match="epoch is -1"):
        loader(numbers).set_epoch(-1)


# What it costs


def test_nothing_loads_torch_before_the_first_batch(lake):
    lake.create_table("pets", data=pa.table({"x": range(8)}))
    code = (
        "import sys, lakehouse as lh\n"
        f"loader = lh.connect({lake.uri!r}).open_table('pets').loader(batch_size=4)\n"
        "print(loader.batch_type, len(loader), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "torch 2 False\n"


def test_reads_are_few_sorted_and_without_repeats(numbers, monkeypatch):
    asked = []
    take = reads.take_row_ids

    def counted(snapshot, row_ids, columns=None, **limits):
        asked.append(row_ids.tolist())
        return take(snapshot, row_ids, columns, **limits)

    monkeypatch.setattr(reads, "take_row_ids", counted)
    monkeypatch.setattr(source, "KEPT_NBYTES", 0)
    one = loader(numbers, columns=["x"], batch_size=4, prefetch_batches=0)
    list(one)
    assert all(ids == sorted(set(ids)) for ids in asked)
    assert len(asked) < len(one) / 2
    assert one.stats().num_reads == len(asked)
    assert one.stats().num_rows_read == sum(map(len, asked)) == 96


def test_stats_say_what_was_done(numbers):
    one = loader(numbers, batch_size=8)
    assert one.stats().verdict == "nothing yet"
    list(one)
    stats = one.stats()
    assert (stats.num_batches, stats.num_rows) == (12, 96)
    assert stats.nbytes_read > 0
    assert 0 <= stats.stall_share <= 1
    assert stats.verdict in ("consumer", "storage", "decode")
    assert "96 rows in 12 batches" in str(stats)


def test_the_arrays_of_a_loader_without_torch_are_plain():
    array = np.arange(3)
    assert NumpyArrays().wrap(array) is array
