"""Clips of videos: the right frames, out of the part of the file that holds them, the same on any topology."""

import contextlib
import io
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import DataError, InvalidArgumentError, MediaError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import TableDataset
from lakehouse.loader.forms.clips import Clip
from lakehouse.loader.forms.sizes import Pad, Resize
from lakehouse.media.clips import read_clips
from lakehouse.media.ranges import Ranges
from tests.media_files import VIDEOS, video

FPS = 25
WIDTH, HEIGHT = 64, 48
kinds = st.sampled_from(sorted(VIDEOS))


def numbered(times_s, b_frames=2, gop=12, width_px=WIDTH, height_px=HEIGHT):
    """An MP4 whose frames tell their number in the brightness of eight stripes, at any times."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"bf": str(b_frames), "crf": "10"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width_px, height_px, "yuv420p", gop
        stream.time_base = stream.codec_context.time_base = Fraction(1, 12_800)
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(stripes(number, width_px, height_px), "rgb24")
            frame.pts, frame.time_base = round(time_s * 12_800), Fraction(1, 12_800)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def stripes(number, width_px=WIDTH, height_px=HEIGHT):
    bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8) * 200 + 20
    return np.broadcast_to(np.repeat(bits, width_px // 8)[None, :, None], (height_px, width_px, 3)).copy()


def number_of(frame):
    """The number of a frame of shape (3, height, width), whatever was done to it."""
    bits = np.asarray(frame)[0].mean(axis=0).reshape(8, -1).mean(axis=1) > 120
    return int((bits << np.arange(8)).sum())


def evenly(num_frames):
    return [number / FPS for number in range(num_frames)]


def stored(lake, videos, storage="blob"):
    fields = [types.field("video", "video", storage=storage), pa.field("x", pa.int64())]
    table = lake.create_table("videos", schema=pa.schema(fields))
    table.add(pa.table({"video": pa.array(videos, pa.large_binary()), "x": range(len(videos))}))
    return table.snapshot()


def loader(snapshot, clip, **options):
    return Loader(snapshot, LoaderOptions(**{"batch_size": 2, "decode": {"video": clip}} | options))


def shown(file, place, num_frames, stride):
    (clip,) = read_clips(io.BytesIO(file), [place], num_frames, stride)
    numbers = [number_of(np.asarray(frame).transpose(2, 0, 1)) for frame in clip]
    return numbers, [frame.info["time_s"] for frame in clip]


# Which frames


MADE_AS = {kind: video(kind) for kind in VIDEOS}
MADE = {b_frames: numbered(evenly(60), b_frames) for b_frames in (0, 2)}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 2]), st.floats(0, 1, exclude_max=True), st.integers(1, 20), st.integers(1, 5))
def test_a_clip_has_frames_so_far_apart_from_its_place_on(b_frames, place, num_frames, stride):
    numbers, times_s = shown(MADE[b_frames], place, num_frames, stride)
    behind = (num_frames - 1) * stride
    first = min(int(place * (60 - behind)), 59) if behind < 60 else 0
    wanted = list(range(first, 60, stride))[:num_frames]
    assert numbers == wanted
    assert times_s == pytest.approx([number / FPS for number in wanted], abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_variable_pace_gives_neighbouring_frames_and_their_own_times(data):
    gaps = data.draw(st.lists(st.sampled_from([0.02, 0.04, 0.3, 1.0]), min_size=29, max_size=29))
    times_s = np.concatenate([[0], np.cumsum(gaps)])
    place, num_frames, stride = data.draw(st.tuples(st.floats(0, 0.999), st.integers(1, 9), st.integers(1, 3)))
    numbers, shown_s = shown(numbered(times_s), place, num_frames, stride)
    assert len(numbers) == num_frames
    assert np.diff(numbers).tolist() == [stride] * (num_frames - 1)
    assert shown_s == pytest.approx(times_s[numbers], abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 30), st.floats(0, 0.999))
def test_without_a_stride_a_clip_spans_the_whole_video(num_frames, place):
    numbers, _ = shown(MADE[2], place, num_frames, None)
    assert len(set(numbers)) == num_frames
    assert all(abs(number - (part + place) / num_frames * 60) <= 1 for part, number in enumerate(numbers))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.floats(0, 0.999), st.sampled_from([1, 3, None]))
def test_a_short_video_gives_the_frames_it_has(num_there, num_frames, place, stride):
    numbers, _ = shown(numbered(evenly(num_there)), place, num_frames, stride)
    assert numbers == sorted(set(numbers))
    assert len(numbers) == min(num_frames, -(-num_there // (stride or 1)))


@pytest.mark.parametrize("kind", VIDEOS)
def test_every_container_gives_clips_of_neighbours(kind):
    for place in (0.0, 0.4, 0.9999):
        (clip,) = read_clips(io.BytesIO(MADE_AS[kind]), [place], 5, 3)
        gaps = np.diff([frame.info["time_s"] for frame in clip])
        assert gaps == pytest.approx([3 / FPS] * 4, abs=2e-3)


@settings(max_examples=80, deadline=None)
@given(kinds, st.sampled_from([1, 2, None]), st.floats(0, 0.999), st.data())
def test_damage_anywhere_ends_in_frames_or_a_media_error(kind, stride, place, draw):
    data = bytearray(MADE_AS[kind])
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=20)):
        data[at] ^= draw.draw(st.integers(1, 255))
    with contextlib.suppress(MediaError):
        (clip,) = read_clips(io.BytesIO(bytes(data)), [place], 6, stride)
        assert len(clip) <= 6


def test_frames_recorded_sideways_come_upright():
    (clip,) = read_clips(io.BytesIO(video(rotation=90)), [0.0], 2, 1)
    assert [frame.size for frame in clip] == [(48, 64)] * 2


def test_a_recording_that_does_not_say_how_long_it_is_gives_its_start(monkeypatch):
    monkeypatch.setattr("lakehouse.media.clips.duration_s", lambda container, stream: None)  # as of live streams
    assert shown(MADE[2], 0.0, 3, 2)[0] == [0, 2, 4]
    for place, stride in ((0.5, 2), (0.0, None)):
        with pytest.raises(MediaError, match="does not say how long it is.*policy='start'"):
            shown(MADE[2], place, 3, stride)


# What is read


@pytest.fixture(scope="module")
def large():
    """Ten seconds of noise, a key frame each second: 4 MB."""
    return video(num_frames=250, gop=25, width_px=160, height_px=120, busy=True)


def test_only_the_stretch_of_a_clip_is_read(large):
    with av.open(io.BytesIO(large)) as file:
        sizes = [packet.size for packet in file.demux(video=0)]
    read = Ranges(io.BytesIO(large))
    read_clips(read, [0.5], 8, 2)
    needed = sum(sizes[100:142])  # the clip begins at frame 117, behind the key frame 100, and ends with 131
    assert read.nbytes <= 1.1 * needed + 4 * 65_536  # header and index, and the ends of the stretch
    assert read.nbytes < 0.3 * len(large)
    before = read.nbytes
    read_clips(read, [0.5] * 3, 8, 2)
    assert read.nbytes == before  # what clips share is read once


@settings(max_examples=50)
@given(st.binary(max_size=300_000), st.data())
def test_ranges_read_like_the_file(data, draw):
    plain, ranges = io.BytesIO(data), Ranges(io.BytesIO(data))
    for _ in range(draw.draw(st.integers(1, 10))):
        offset, whence = draw.draw(st.sampled_from([(0, 0), (-50, 2), (70_000, 0), (10, 1), (131_072, 0)]))
        if whence == 2 and len(data) < 50:
            continue
        assert ranges.seek(offset, whence) == plain.seek(offset, whence)
        size = draw.draw(st.sampled_from([-1, 0, 1, 65_536, 100_000]))
        assert ranges.read(size) == plain.read(size)
        assert ranges.tell() == plain.tell()
    assert ranges.nbytes <= len(data)


@pytest.mark.parametrize("storage", ["blob", "inline"])
def test_of_a_blob_the_loader_reads_no_more_than_its_clips(lake, large, storage):
    one = loader(stored(lake, [large] * 2, storage), Clip(4, policy="start"))
    (batch,) = one
    assert batch["video"].shape == (2, 4, 3, 120, 160)
    share = one.stats().nbytes_read / (2 * len(large))
    assert share < 0.2 if storage == "blob" else share >= 1


# In batches


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("films"))
    videos = [numbered(evenly(num_frames)) for num_frames in (60, 40, 60, 10, 33, 60, 25, 48)]
    snapshot = stored(lake, videos)
    return lake.open_table("videos", version=snapshot.version).snapshot()


def test_a_batch_has_frames_and_their_times(films):
    (batch,) = loader(films, Clip(6, stride=2, policy="start"), batch_size=8, shuffle=False)
    assert (batch["video"].shape, batch["video"].dtype) == ((8, 6, 3, HEIGHT, WIDTH), torch.uint8)
    assert (batch["video_pts_s"].shape, batch["video_pts_s"].dtype) == ((8, 6), torch.float64)
    for clip, times_s in zip(batch["video"], batch["video_pts_s"], strict=True):
        numbers = [number_of(frame) for frame in clip]
        assert times_s.tolist() == pytest.approx([number / FPS for number in numbers], abs=1e-3)
    assert [number_of(frame) for frame in batch["video"][0]] == [0, 2, 4, 6, 8, 10]


def test_several_clips_of_a_video_stand_on_an_axis_of_their_own(films):
    (batch,) = loader(films, Clip(3, policy="uniform", per_video=4), batch_size=8, shuffle=False)
    assert batch["video"].shape == (8, 4, 3, 3, HEIGHT, WIDTH)
    assert batch["video_pts_s"].shape == (8, 4, 3)
    starts = [number_of(clip[0]) for clip in batch["video"][0]]
    assert starts == [0, 19, 38, 57]
    (middle,) = loader(films, Clip(3, policy="uniform"), batch_size=8, shuffle=False)
    assert number_of(middle["video"][0][0]) == 29


@pytest.mark.parametrize("size", [Resize(24, 32), Pad(64, 64), Pad(24, 24)])
def test_frames_are_brought_to_a_size(films, size):
    clip = Clip(3, policy="start", size=size)
    (batch,) = loader(films, clip, batch_size=8, shuffle=False)
    assert batch["video"].shape == (8, 3, 3, size.height_px, size.width_px)
    assert ("video_size" in batch) == isinstance(size, Pad)
    if "video_size" in batch:
        width_px, height_px = size.inside(WIDTH, HEIGHT)
        assert batch["video_size"].tolist() == [[height_px, width_px]] * 8


def test_videos_of_different_sizes_without_one_are_refused(lake):
    snapshot = stored(lake, [numbered(evenly(5)), numbered(evenly(5), width_px=32)])
    with pytest.raises(DataError, match="'video' has shape"):
        list(loader(snapshot, Clip(2, policy="start")))


def drawn(batches):
    """What each row got, by its number: the frames' numbers."""
    return {
        x: [number_of(frame) for frame in clip]
        for batch in batches
        for x, clip in zip(batch["x"].tolist(), batch["video"], strict=True)
    }


@pytest.mark.parametrize("by_row", [False, True])
def test_random_clips_are_the_same_after_a_resume_and_on_any_topology(films, by_row):
    options = {"transform": dict} if by_row else {}
    alone = loader(films, Clip(4), batch_size=4, **options)
    first, second = drawn(alone), drawn(alone)
    assert len(first) == 8
    assert first != second
    assert first == drawn(loader(films, Clip(4), batch_size=4, prefetch_batches=0))
    ranks = [loader(films, Clip(4), batch_size=2, rank=r, world_size=2, prefetch_batches=r) for r in range(2)]
    assert {x: frames for one in ranks for x, frames in drawn(one).items()} == first
    one = loader(films, Clip(4), batch_size=4)
    next(iter(one))
    resumed = loader(films, Clip(4), batch_size=4)
    resumed.load_state_dict(one.state_dict())
    rest = drawn(resumed)
    assert len(rest) == 4
    assert rest.items() <= first.items()


def test_random_clips_begin_anywhere(films):
    one = loader(films, Clip(5), batch_size=8)
    starts = [frames[0] for _ in range(12) for x, frames in drawn(one).items() if x in (0, 2, 5)]
    assert min(starts) < 12
    assert max(starts) > 43
    assert len(set(starts)) > 15


# Short, broken and missing ones


def test_a_short_video_repeats_its_last_frame_and_is_counted(films):
    one = loader(films, Clip(12, policy="start"), batch_size=8, shuffle=False)
    (batch,) = one
    assert [number_of(frame) for frame in batch["video"][3]] == [*range(10), 9, 9]
    assert batch["video_pts_s"][3].tolist()[-3:] == pytest.approx([0.36] * 3)
    assert one.stats().num_short_clips == 1


def test_a_short_video_is_a_bad_row_if_that_is_asked_for(films):
    clip = Clip(12, policy="start", short="raise")
    with pytest.raises(MediaError, match=r"column 'video' of row id 3: the video has 10 frames for a clip of 12"):
        list(loader(films, clip, batch_size=8))
    one = loader(films, clip, batch_size=8, shuffle=False, on_bad_rows="substitute")
    (batch,) = one
    assert batch["x"].tolist() == [0, 1, 2, 4, 4, 5, 6, 7]
    assert one.stats().num_bad_rows == 1


@pytest.mark.parametrize("storage", ["blob", "inline"])
def test_broken_and_missing_videos_are_bad_rows(lake, storage):
    good = numbered(evenly(9))
    snapshot = stored(lake, [good, good[:700], None, b"", good], storage)
    with pytest.raises(MediaError, match=r"column 'video' of row id 1"):
        list(loader(snapshot, Clip(2), batch_size=5, shuffle=False))
    one = loader(snapshot, Clip(2), batch_size=5, shuffle=False, on_bad_rows="mask")
    (batch,) = one
    assert batch["_is_bad"].tolist() == [False, True, True, True, False]
    assert batch["video"].shape == (5, 2, 3, HEIGHT, WIDTH)


def test_a_video_of_one_frame_is_a_clip_of_it(lake):
    snapshot = stored(lake, [numbered([0.0]), numbered([0.0])])
    for clip in (Clip(1), Clip(3, stride=2), Clip(2, stride=None), Clip(1, policy="uniform", per_video=2)):
        (batch,) = loader(snapshot, clip)
        assert not batch["video_pts_s"].any()


def test_without_a_clip_a_video_is_its_bytes(films):
    (batch,) = Loader(films, LoaderOptions(batch_size=8, columns=["video"]))
    assert all(isinstance(data, bytes) for data in batch["video"])


def test_rows_by_index_have_no_position_to_draw_from(films):
    with pytest.raises(InvalidArgumentError, match="policy='random'"):
        TableDataset(films, LoaderOptions(decode={"video": Clip(2)}))
    row = TableDataset(films, LoaderOptions(decode={"video": Clip(2, policy="start")}))[0]
    assert row["video"].shape == (2, 3, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_frames": 0}, "num_frames is 0"),
        ({"num_frames": 2, "stride": 0}, "stride is 0"),
        ({"num_frames": 2, "stride": 1.5}, "stride is 1.5"),
        ({"num_frames": 2, "per_video": True}, "per_video is True"),
        ({"num_frames": 2, "policy": "middle"}, "policy is 'middle'; it is one of random, uniform, start"),
        ({"num_frames": 2, "short": "drop"}, "short is 'drop'"),
        ({"num_frames": 2, "policy": "start", "per_video": 2}, "use 'uniform'"),
        ({"num_frames": 2, "size": (3, 4)}, r"size is \(3, 4\)"),
    ],
)
def test_a_clip_out_of_its_range_is_refused(options, said):
    with pytest.raises(InvalidArgumentError, match=said):
        Clip(**options)
