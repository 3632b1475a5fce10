"""What a loader costs beside its batches: memory, and time after deletes."""

import json
import subprocess
import sys
import textwrap
import time

import numpy as np
import pyarrow as pa
import pytest

from lakehouse import types
from lakehouse.loader import Loader, LoaderOptions
from tests.media_files import picture

NUM_ROWS, BATCH, AHEAD = 1200, 32, 4
HEIGHT, WIDTH = 256, 340


def in_a_fresh_process(code, *arguments):
    """Run code that prints JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


MEASURED = """
    import json, sys

    def private_mb():
        # What this process alone holds. Pages of shared libraries come and go with the code that runs.
        rollup = open("/proc/self/smaps_rollup").read().split()
        return int(rollup[rollup.index("Anonymous:") + 1]) / 1024

    import lakehouse as lh, torch, PIL.JpegImagePlugin, simplejpeg
    import lakehouse.loader.loader, lakehouse._lance
    before, peak = private_mb(), 0.0
    uri, name, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    for batch in lh.connect(uri).open_table(name).loader(**options):
        peak = max(peak, private_mb())
    nbytes = [getattr(cells, "nbytes", None) or sum(map(len, cells)) for cells in batch.values()]
    print(json.dumps({"mb": peak - before, "batch_mb": sum(nbytes) / 2**20}))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("pictures", schema=pa.schema([types.field("image", "image")]))
    different = [picture(seed=seed, width_px=WIDTH, height_px=HEIGHT, quality=50) for seed in range(20)]
    images = [different[row % 20] + row.to_bytes(2) for row in range(NUM_ROWS)]  # alike, Lance keeps each once
    table.add(pa.table({"image": pa.array(images, pa.large_binary())}))
    return lake.uri


def test_memory_is_that_of_the_batches_ahead_and_little_more(pictures):
    options = {"batch_size": BATCH, "prefetch_batches": AHEAD}
    measured = in_a_fresh_process(MEASURED, pictures, "pictures", json.dumps(options))
    assert measured["batch_mb"] == pytest.approx(BATCH * 3 * HEIGHT * WIDTH / 2**20)
    assert measured["mb"] <= 64 + 1.5 * AHEAD * measured["batch_mb"]


@pytest.mark.parametrize("shuffle", [False, True])
def test_memory_over_many_texts_is_as_small(lake, shuffle):
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, 60_000 * 2_000, np.uint8).tobytes().decode()
    texts = [letters[at : at + 2_000] for at in range(0, len(letters), 2_000)]
    lake.create_table("texts", data=pa.table({"text": texts}))
    options = {"batch_size": 256, "prefetch_batches": AHEAD, "shuffle": shuffle}
    measured = in_a_fresh_process(MEASURED, lake.uri, "texts", json.dumps(options))
    assert measured["mb"] <= 64 + 1.5 * AHEAD * measured["batch_mb"]


def test_memory_over_many_narrow_rows_is_as_small(lake):
    """Too many to be kept, and each read takes rows from all over the table."""
    x = np.arange(3_000_000)
    lake.create_table("numbers", data=pa.table({"x": x, "y": x / 7}))
    options = {"batch_size": 1 << 14, "prefetch_batches": AHEAD}
    measured = in_a_fresh_process(MEASURED, lake.uri, "numbers", json.dumps(options))
    assert measured["mb"] <= 64 + 1.5 * AHEAD * measured["batch_mb"]


def test_rows_that_lie_strewn_are_those_asked_for(lake):
    """In pieces, and of each piece a category has only the words that stand in it."""
    size = 40_000
    words = [f"w{i * 5 // size}" for i in range(size)]
    schema = pa.schema([pa.field("x", pa.int64()), types.field("word", "category", values=sorted(set(words)))])
    table = lake.create_table("strewn", schema=schema)
    for half in (slice(0, size // 2), slice(size // 2, size)):
        x = [None if i % 11 == 0 else i for i in range(size)[half]]
        table.add(pa.table({"x": x, "word": words[half]}), progress=False)
    drawn = np.sort(np.random.default_rng(0).choice(size, 6_000, replace=False))
    whole = table.to_arrow()
    for offsets in (drawn, drawn[:1], drawn[::-1], np.arange(5_000), np.repeat(drawn, 2)):
        read = table.take(offsets)
        assert read["x"].to_pylist() == whole["x"].take(pa.array(offsets)).to_pylist()
        assert read["word"].to_pylist() == [words[i] for i in offsets]


def cpu_s_per_batch(table):
    loader = Loader(table.snapshot(), LoaderOptions(batch_size=256, prefetch_batches=0))
    batches = iter(loader)
    next(batches)
    began = time.process_time()
    num_batches = sum(1 for _ in zip(range(60), batches, strict=False))
    return (time.process_time() - began) / num_batches


def test_deletes_do_not_slow_a_loader_down(lake):
    """In a fragment of a million rows, as Lance writes them; in smaller ones Lance looks row ids up more slowly."""
    x = pa.array(np.arange(1_000_000))
    table = lake.create_table(
        "numbers", data=pa.table({"x": x, "y": np.arange(1_000_000) % 97, "name": x.cast(pa.string())})
    )
    whole = table.checkout(table.version)
    cpu_s_per_batch(whole)  # what happens once in a process
    for until in (1, 2_000, 10_000):
        table.delete(f"x % 97 = 0 AND x < {97 * until}")
        assert table.count_rows() == 1_000_000 - until
        # In turn, and of several the quickest: what else the machine does disturbs both alike.
        before, after = np.min([(cpu_s_per_batch(whole), cpu_s_per_batch(table)) for _ in range(4)], axis=0)
        assert after <= 1.5 * before
