import contextlib
import io

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import InvalidArgumentError, MediaError
from lakehouse.media.audio import audio_info, samples
from lakehouse.media.cutting import clip
from lakehouse.media.endings import container_ends
from lakehouse.media.video import frame_at, frames, video_info
from tests.media_files import VIDEOS, all_frames, picture, sound, video

FPS = 25
MADE = {kind: video(kind) for kind in VIDEOS}
FRAMES = {kind: all_frames(data) for kind, data in MADE.items()}
kinds = st.sampled_from(sorted(VIDEOS))


class CountingFile(io.BytesIO):
    nbytes_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.nbytes_read += len(data)
        return data


def number(kind, image):
    """The number of a frame, found by its pixels."""
    found = [n for n, pixels in enumerate(FRAMES[kind]) if np.array_equal(pixels, np.asarray(image))]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("kind", VIDEOS)
def test_the_header_tells_size_pace_length_and_codec(kind):
    info = video_info(io.BytesIO(MADE[kind]))
    assert (info.width_px, info.height_px, info.fps, info.num_frames) == (64, 48, FPS, 60)
    assert info.duration_s == pytest.approx(60 / FPS)
    assert info.codec == {"libx264": "h264", "libvpx-vp9": "vp9", "libvpx": "vp8"}.get(VIDEOS[kind][1], VIDEOS[kind][1])


@given(kinds, st.integers(0, 59), st.floats(0, 0.9))
@settings(max_examples=60, deadline=None)
def test_the_frame_at_a_time_is_the_one_on_screen(kind, n, late):
    image = frame_at(io.BytesIO(MADE[kind]), (n + late) / FPS)
    assert number(kind, image) == n
    assert image.info["time_s"] == pytest.approx(n / FPS, abs=1e-3)  # Matroska counts milliseconds


@given(kinds, st.integers(0, 58), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_all_frames_of_a_stretch_come_once_in_order(kind, start, length):
    end = min(start + length, 60)
    shown = frames(io.BytesIO(MADE[kind]), start / FPS, end / FPS)
    assert [number(kind, image) for image in shown] == list(range(start, end))


@given(kinds, st.integers(0, 50), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_frames_at_a_pace_are_those_on_screen_at_its_ticks(kind, start, step):
    shown = frames(io.BytesIO(MADE[kind]), start / FPS, 60 / FPS, fps=FPS / step)
    assert [number(kind, image) for image in shown] == list(range(start, 60, step))


def test_a_pace_above_the_videos_own_repeats_frames():
    shown = frames(io.BytesIO(MADE["mp4"]), 0.0, 4 / FPS, fps=2 * FPS)
    assert [number("mp4", image) for image in shown] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mpegts"])
def test_a_pace_slower_than_key_frames_seeks_and_finds_the_same_frames(kind):
    data = video(kind, num_frames=400)
    there = all_frames(data)
    shown = list(frames(io.BytesIO(data), fps=1 / 6))
    assert [image.info["time_s"] for image in shown] == [0.0, 6.0, 12.0]
    assert all(np.array_equal(image, there[n]) for image, n in zip(shown, (0, 150, 300), strict=True))


@given(st.sampled_from(sorted(set(VIDEOS) - {"webm vp8"})), st.integers(0, 55), st.integers(4, 60))
@settings(max_examples=40, deadline=None)
def test_a_clip_holds_its_frames_bit_by_bit(kind, start, length):
    end = min(start + length, 60)
    cut = all_frames(clip(io.BytesIO(MADE[kind]), start / FPS, end / FPS))
    wanted = FRAMES[kind][start:end]
    assert len(wanted) <= len(cut) <= len(wanted) + 3
    assert all(np.array_equal(a, b) for a, b in zip(cut, wanted, strict=False))


def test_a_clip_that_cannot_be_an_mp4_begins_at_the_key_frame():
    cut = all_frames(clip(io.BytesIO(MADE["webm vp8"]), 30 / FPS, 50 / FPS))
    assert [number("webm vp8", pixels) for pixels in cut] == list(range(20, 50))


def test_a_clip_keeps_its_sound():
    data = video(with_sound=True)
    cut = io.BytesIO(clip(io.BytesIO(data), 0.5, 1.5))
    assert audio_info(cut).codec == "aac"
    assert audio_info(cut).duration_s == pytest.approx(1.0, abs=0.3)  # AAC comes in blocks of 128 ms here
    assert video_info(cut).duration_s == pytest.approx(1.0, abs=0.13)


def test_one_frame_of_a_long_video_does_not_read_it_all():
    file = CountingFile(video(num_frames=250, gop=25, width_px=160, height_px=120, busy=True))
    nbytes = len(file.getvalue())
    assert nbytes > 2_000_000
    video_info(file)
    assert file.nbytes_read < 0.1 * nbytes
    file.nbytes_read = 0
    frame_at(file, 7.3)
    assert file.nbytes_read < 0.2 * nbytes


@pytest.mark.parametrize("t_s", [-0.1, 2.4, 100.0, float("nan")])
def test_a_time_outside_the_video_is_refused(t_s):
    with pytest.raises(InvalidArgumentError, match=r"the video has 0 s to 2.4 s"):
        frame_at(io.BytesIO(MADE["mp4"]), t_s)


@pytest.mark.parametrize(
    ("start_s", "end_s", "fps"), [(1.0, 1.0, None), (2.0, 1.0, None), (0.0, 1.0, 0), (0.0, 1.0, -2)]
)
def test_an_empty_stretch_or_pace_is_refused(start_s, end_s, fps):
    with pytest.raises(InvalidArgumentError):
        next(frames(io.BytesIO(MADE["mp4"]), start_s, end_s, fps))


def test_frames_recorded_sideways_come_upright():
    upright = all_frames(video())[30]
    turned = frame_at(io.BytesIO(video(rotation=90)), 30 / FPS)
    assert turned.size == (48, 64)
    assert np.array_equal(np.rot90(upright), np.asarray(turned))


@pytest.mark.parametrize("cut_nbytes", [1, 200, 1000])
@pytest.mark.parametrize("kind", ["mp4", "fragmented mp4", "mkv", "webm", "avi"])
def test_a_cut_file_is_seen_by_the_lengths_it_states(kind, cut_nbytes):
    assert container_ends(io.BytesIO(MADE[kind]))
    assert not container_ends(io.BytesIO(MADE[kind][:-cut_nbytes]))


@given(kinds, st.data())
@settings(max_examples=60, deadline=None)
def test_damage_anywhere_ends_in_a_frame_or_a_media_error(kind, draw):
    data = bytearray(MADE[kind])
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=20)):
        data[at] ^= draw.draw(st.integers(1, 255))
    for action in (video_info, lambda f: frame_at(f, 1.0), container_ends, lambda f: clip(f, 0.5, 1.5)):
        with contextlib.suppress(MediaError, InvalidArgumentError):
            action(io.BytesIO(bytes(data)))


PLAYLISTS = [
    b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    b"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
]


@pytest.mark.parametrize("data", [b"", b"no video at all", picture("JPEG"), picture("PNG"), *PLAYLISTS])
def test_what_is_no_video_is_refused_and_playlists_are_not_followed(data):
    for action in (video_info, audio_info):
        with pytest.raises(MediaError, match="not (video|audio) that can be read"):
            action(io.BytesIO(data))


def test_a_sound_is_no_video_and_says_what_it_holds():
    with pytest.raises(MediaError, match="no video stream in this wav file; it holds audio"):
        video_info(io.BytesIO(sound()))


def test_a_video_without_sound_is_no_audio():
    with pytest.raises(MediaError, match="no audio stream .* it holds video"):
        audio_info(io.BytesIO(MADE["mp4"]))


def test_the_picture_on_a_record_is_no_video():
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        track = file.add_stream("aac", rate=8000, layout="mono")
        file.mux(cover.encode(av.VideoFrame(64, 48, "yuvj420p")))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        file.mux(track.encode(frame))
        file.mux(track.encode(None))
    with pytest.raises(MediaError, match="no video stream"):
        video_info(io.BytesIO(out.getvalue()))


@given(st.integers(1, 5000), st.sampled_from([8000, 44_100]), st.integers(1, 2))
@settings(max_examples=20, deadline=None)
def test_sound_decodes_to_the_samples_that_were_written(num_samples, rate_hz, channels):
    data = sound(num_samples, rate_hz, channels)
    info = audio_info(io.BytesIO(data))
    assert (info.sample_rate_hz, info.num_channels, info.codec) == (rate_hz, channels, "pcm_s16le")
    written = np.frombuffer(data[44:], np.int16).reshape(-1, channels).T
    assert np.array_equal(samples(io.BytesIO(data)), written.astype(np.float32) / 32768)
