"""Pictures and videos as a function asks for them, inline or as blobs; read as late and as little as can be."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.media.blobs import BlobInputs
from tests.media_files import picture, sound, video

COLUMNS = """
name = "t"
key = "id"
[columns]
id = {{ type = "int64", nullable = false }}
image = {{ type = "image", storage = "{storage}" }}
video = {{ type = "video", storage = "{storage}" }}
sound = {{ type = "audio", storage = "{storage}" }}
note = {{ type = "text" }}
"""
CLIP = video(num_frames=6, gop=3)
BROKEN = 3


def fill(table, *args, **options):
    return table.backfill(*args, progress=False, **options)


def rows_of_media():
    """Two whole rows, one of NULLs, one of files that do not decode, one of large pictures."""
    yield {"id": 0, "image": picture(seed=0), "video": CLIP, "sound": sound(400), "note": "Grüße"}
    yield {"id": 1, "image": picture("PNG", seed=1), "video": CLIP, "sound": sound(800), "note": ""}
    yield {"id": 2, "image": None, "video": None, "sound": None, "note": None}
    yield {"id": BROKEN, "image": b"no picture", "video": b"no video", "sound": b"no sound", "note": "x"}
    yield {
        "id": 4,
        "image": picture("PNG", seed=4, width_px=300, height_px=200),
        "video": CLIP,
        "sound": sound(),
        "note": "y",
    }


@pytest.fixture(params=["inline", "blob"])
def table(request, lake):
    table = lake.create_table("t", schema=lh.Schema.parse(COLUMNS.format(storage=request.param)))
    table.add(list(rows_of_media()), progress=False)
    return table


def width_of_pil(image: PIL.Image.Image) -> int:
    return image.width


def width_of_array(image: np.ndarray) -> int:
    assert image.dtype == np.uint8
    return image.shape[1]


def width_of_handle(image: lh.Image) -> int:
    return image.info.width_px


def width_of_bytes(image: bytes) -> int:
    return lh.Image(image).info.width_px


def width_or_zero(image: PIL.Image.Image | None) -> int:
    return 0 if image is None else image.width


def widths_of_pil(image: list[PIL.Image.Image]) -> list[int]:
    return [one.width for one in image]


def widths_of_arrays(image: list[np.ndarray]) -> list[int]:
    return [one.shape[1] for one in image]


def widths_of_handles(image: list[lh.Image]) -> list[int]:
    return [one.info.width_px for one in image]


def widths_or_zeros(image: list[PIL.Image.Image | None]) -> list[int]:
    return [0 if one is None else one.width for one in image]


def widths_of_bytes(image: list[bytes]) -> list[int]:
    return [lh.Image(one).info.width_px for one in image]


def widths_of_arrow(image: pa.Array) -> list[int | None]:
    return [None if one is None else lh.Image(one).info.width_px for one in image.to_pylist()]


class Widths:
    """Keeps what it decoded last."""

    def __init__(self, extra: int) -> None:
        self.extra, self.seen = extra, 0

    def __call__(self, image: PIL.Image.Image, note: str) -> tuple[int, int]:
        self.seen += 1
        assert self.seen <= 4
        return image.width, len(note) + self.extra


ROW = [width_of_pil, width_of_array, width_of_handle, width_of_bytes, width_or_zero]
BATCH = [widths_of_pil, widths_of_arrays, widths_of_handles, widths_of_bytes, widths_of_arrow, widths_or_zeros]


def test_a_picture_comes_in_every_form_and_a_broken_one_costs_its_row(table):
    udfs = {f.__name__: lh.udf(pa.int32(), batch=f in BATCH, version="1")(f) for f in ROW + BATCH}
    table.add_columns(udfs)
    fill(table, list(udfs), udf=udfs)
    for name in udfs:
        none = 0 if "or_zero" in name else None
        assert table.to_arrow([name])[name].to_pylist() == [40, 40, none, None, 300]
        (error,) = table.errors(name).to_pylist()
        assert (error["key"], error["error"]) == (str(BROKEN), "MediaError")


def test_classes_and_several_outputs_read_media_too(table):
    made = lh.udf({"width": pa.int32(), "length": pa.int32()}, version="1")(Widths)(extra=7)
    table.add_columns({"widths": made})
    assert fill(table, "widths", udf=made).num_failed == 1
    assert table.to_arrow(["width", "length"]).to_pylist() == [
        {"width": 40, "length": 12},
        {"width": 40, "length": 7},
        {"width": None, "length": None},
        {"width": None, "length": None},
        {"width": 300, "length": 8},
    ]


def test_videos_sounds_and_texts_come_as_handles(table):
    @lh.udf(pa.int32(), version="1")
    def frames(video: lh.Video) -> int:
        return sum(1 for _ in video.frames())

    @lh.udf(pa.float32(), batch=True, version="1")
    def seconds(sound: list[lh.Audio], note: list[lh.Text]) -> list[float]:
        return [one.info.duration_s + 0 * len(text.text()) for one, text in zip(sound, note, strict=True)]

    udfs = {"frames": frames, "seconds": seconds}
    table.add_columns(udfs)
    fill(table, ["frames", "seconds"], udf=udfs)
    assert table.to_arrow(["frames"])["frames"].to_pylist() == [6, 6, None, None, 6]
    assert table.to_arrow(["seconds"])["seconds"].to_pylist() == pytest.approx([0.05, 0.1, None, None, 0.5])


def test_a_clip_of_a_video_is_a_column(table):
    @lh.udf("video", version="1")
    def clip(video: lh.Video) -> lh.Video:
        return video.clip(0, 0.1)

    table.add_columns({"clip": clip})
    assert fill(table, "clip", udf=clip).num_failed == 1
    assert 3 <= table.rows([0])[0]["clip"].info.num_frames < 6
    assert table.rows([2])[0]["clip"] is None


# How much is read


def long_videos(lake, num_rows, nbytes):
    """Videos whose index is at the front; behind them lies what no reader of frames asks for."""
    table = lake.create_table("t", schema=lh.Schema.parse(COLUMNS.format(storage="blob")))
    free = (nbytes + 8).to_bytes(4, "big") + b"free" + bytes(nbytes)
    table.add(({"id": n, "video": CLIP + free} for n in range(num_rows)), progress=False)
    return table


def test_a_function_that_looks_at_frames_reads_them_and_not_the_whole_videos(lake):
    table = long_videos(lake, num_rows=4, nbytes=(stored := 16 << 20) // 4)

    @lh.udf(pa.int32(), version="1")
    def width(video: lh.Video) -> int:
        return video.frame_at(0).width

    table.add_columns({"width": width})
    snapshot = table.snapshot()
    inputs = BlobInputs(snapshot, "video", snapshot.dataset.scanner(columns=[], with_row_id=True).to_table()["_rowid"])
    snapshot.dataset.io_stats_incremental()
    assert [inputs.handle("video", row).frame_at(0).width for row in range(4)] == [64] * 4
    assert snapshot.dataset.io_stats_incremental().read_bytes < stored / 4
    before = _read_by_this_process()
    assert fill(table, "width", udf=width).num_filled == 4
    assert _read_by_this_process() - before < stored / 2


def _read_by_this_process():
    return int(Path("/proc/self/io").read_text().split("rchar:")[1].split()[0])


def test_handles_in_the_place_of_bytes_are_the_same_rows(lake):
    table = lake.create_table("t", schema=lh.Schema.parse(COLUMNS.format(storage="blob")))
    table.add(list(rows_of_media()), progress=False)
    snapshot = table.snapshot()
    ids = np.asarray(snapshot.dataset.scanner(columns=[], with_row_id=True).to_table()["_rowid"])
    inputs = BlobInputs(snapshot, "image", ids)
    stored = [row["image"] for row in rows_of_media()]
    assert (len(inputs), inputs.null_count, inputs.read().to_pylist()) == (5, 1, stored)
    assert inputs.is_null().tolist() == [value is None for value in stored]
    part = inputs.take([4, 2, 0])[:2]
    assert part.read().to_pylist() == [stored[4], None]
    assert part.handle("image", 1) is None
    assert part.handle("image", 0).read() == stored[4]


MOST_MB = 200  # what 45 and 400 videos of 5 MB need alike

MEMORY = """
import sys, threading
import lakehouse as lh, pyarrow as pa

num_rows, how = int(sys.argv[1]), sys.argv[2]
MB = 1 << 20

def held():
    text = open("/proc/self/status").read()
    return int(text.split("RssAnon:")[1].split()[0]) >> 10

@lh.udf(pa.int64(), version="1")
def size(video: bytes) -> int:
    return len(video)

@lh.udf("video", version="1")
def copy(video: bytes) -> bytes:
    return video

table = lh.connect("lake").create_table("t", schema="videos")
table.add(({"id": str(n), "video": n.to_bytes(4, "big") * (5 * MB // 4)} for n in range(num_rows)), progress=False)
udf = {"size": size, "copy": copy}[how]
table.add_columns({how: udf})
most, done = [held()], threading.Event()

def watch():
    while not done.wait(0.005):
        most.append(held())

watcher = threading.Thread(target=watch)
watcher.start()
before = most[0]
result = table.backfill(how, udf=udf, progress=False)
done.set()
watcher.join()
assert result.num_filled == num_rows, result
print(max(most) - before)
"""


@pytest.mark.parametrize(
    ("how", "num_rows"),
    [
        ("size", 50),
        ("copy", 45),
        pytest.param("size", 200, marks=pytest.mark.soak),
        pytest.param("copy", 400, marks=pytest.mark.soak),
    ],
)
def test_memory_is_bounded_however_many_large_videos_there_are(tmp_path, how, num_rows):
    code = textwrap.dedent(MEMORY)
    done = subprocess.run(
        [sys.executable, "-c", code, str(num_rows), how], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < MOST_MB
