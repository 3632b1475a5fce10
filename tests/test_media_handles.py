import io

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import InvalidArgumentError, MediaError, StorageError
from lakehouse.media.codecs import encode_image
from lakehouse.media.handles import BytesSource, handle
from tests.media_files import all_frames, noise, picture, sound, video

KINDS = {"image": lh.Image, "video": lh.Video, "audio": lh.Audio, "text": lh.Text, "blob": lh.Blob}


class Watched:
    """Bytes that count what is read of them."""

    def __init__(self, data):
        self.data = data
        self.num_asked = 0
        self.nbytes_read = 0

    @property
    def nbytes(self):
        self.num_asked += 1
        return len(self.data)

    def read(self):
        self.num_asked += 1
        self.nbytes_read += len(self.data)
        return self.data

    def open(self):
        self.num_asked += 1
        return WatchedFile(self)


class WatchedFile(io.BytesIO):
    def __init__(self, source):
        super().__init__(source.data)
        self.source = source

    def read(self, size=-1):
        data = super().read(size)
        self.source.nbytes_read += len(data)
        return data


@pytest.mark.parametrize("kind", KINDS)
def test_a_handle_asks_for_nothing_until_asked(kind):
    source = Watched(b"never read")
    medium = handle(kind, source)
    assert isinstance(medium, KINDS[kind])
    assert len(repr(medium)) < 80
    assert source.num_asked == 0


@given(st.binary(), st.sampled_from(sorted(KINDS)))
def test_every_handle_gives_back_its_bytes(data, kind):
    medium = handle(kind, BytesSource(data))
    assert medium.read() == data
    assert medium.nbytes == len(data)
    with medium.open() as file:
        assert file.seek(len(data) // 2) == len(data) // 2
        assert file.read() == data[len(data) // 2 :]


def test_an_image_reads_its_header_for_info_once_and_all_of_it_for_pixels():
    data = picture("PNG", width_px=300, height_px=400)
    source = Watched(data)
    image = lh.Image(source)
    assert (image.info.width_px, image.info.height_px, image.info.format) == (300, 400, "PNG")
    assert source.nbytes_read == 64 << 10 < len(data)
    assert image.info is image.info
    assert source.nbytes_read == 64 << 10
    assert np.array_equal(image.numpy(), noise(300, 400))
    assert image.pil().size == (300, 400)


def test_a_picture_beyond_the_limit_tells_its_size_and_decodes_if_the_caller_says_so():
    image = lh.Image(encode_image(np.zeros((7100, 7100), np.uint8)))
    assert image.info.width_px == 7100
    with pytest.raises(MediaError, match="max_pixels=50,000,000"):
        image.pil()
    assert image.pil(max_pixels=60_000_000).size == (7100, 7100)


def test_a_video_reads_its_header_for_info_and_a_part_of_it_for_a_frame():
    data = video(num_frames=150, gop=15, width_px=160, height_px=120, busy=True)
    source = Watched(data)
    clip = lh.Video(source)
    assert clip.info.duration_s == pytest.approx(6.0)
    assert source.nbytes_read < 0.2 * len(data)
    source.nbytes_read = 0
    frame = clip.frame_at(3.2)
    assert source.nbytes_read < 0.4 * len(data)
    assert np.array_equal(np.asarray(frame), all_frames(data)[80])


def test_a_video_gives_frames_and_clips_that_are_videos():
    data = video()
    there = all_frames(data)
    medium = lh.Video(data)
    assert [f.info["time_s"] for f in medium.frames(0.5, 2.0, fps=2)] == pytest.approx([0.48, 1.0, 1.48])
    part = medium.clip(0.8, 2.0)
    assert isinstance(part, lh.Video)
    assert np.array_equal(np.asarray(part.frame_at(0.0)), there[20])
    assert np.array_equal(np.asarray(part.clip(0.4, 0.8).frame_at(0.0)), there[30])


def test_frames_that_are_not_taken_are_not_decoded_and_the_file_is_closed():
    opened = []

    class Source(BytesSource):
        def open(self):
            opened.append(super().open())
            return opened[-1]

    shown = lh.Video(Source(video())).frames()
    next(shown)
    assert not opened[0].closed
    shown.close()
    assert opened[0].closed


def test_a_frame_comes_from_a_blob_of_lance_without_its_other_bytes(tmp_path):
    files = [video(num_frames=50 + n, width_px=160, height_px=120, busy=True) for n in range(2)]
    table = pa.table({"video": lance.blob_array(files)}, schema=pa.schema([lance.blob_field("video")]))
    dataset = lance.write_dataset(table, tmp_path / "t.lance", data_storage_version="2.2")

    class Source:
        def __init__(self, row):
            self.row = row

        @property
        def nbytes(self):
            return self.open().size()

        def open(self):
            return dataset.take_blobs("video", indices=[self.row])[0]

        def read(self):
            return self.open().read()

    for row, data in enumerate(files):
        medium = lh.Video(Source(row))
        assert medium.nbytes == len(data)
        assert medium.info.num_frames == 50 + row
        assert np.array_equal(np.asarray(medium.frame_at(1.0)), all_frames(data)[25])
        assert medium.read() == data


def test_a_storage_that_fails_is_not_a_broken_video():
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 100_000:
                raise ConnectionResetError("the network is gone")
            return super().read(size)

    class Source(BytesSource):
        def open(self):
            return Failing(self.read())

    source = Source(video(num_frames=100, width_px=160, height_px=120, busy=True))
    with pytest.raises(StorageError, match="the network is gone"):
        lh.Video(source).frame_at(3.0)
    with pytest.raises(StorageError, match="the network is gone"):
        list(lh.Video(source).frames())


def test_sound_has_info_and_samples():
    medium = lh.Audio(sound(4000, 8000, 2))
    assert (medium.info.sample_rate_hz, medium.info.num_channels, medium.info.duration_s) == (8000, 2, 0.5)
    assert medium.numpy().shape == (2, 4000)


@given(st.text())
def test_a_text_is_its_text_and_its_utf8(text):
    medium = lh.Text(text)
    assert (medium.text(), str(medium), medium.read()) == (text, text, text.encode())


def test_bytes_that_are_not_utf8_are_said_to_be():
    with pytest.raises(MediaError, match="not UTF-8: .* at byte 2"):
        lh.Text(b"ab\xff").text()


MEDIA = {
    "a picture": lh.Image(picture("PNG", width_px=1500, height_px=1000)),
    "a turned picture": lh.Image(picture("JPEG", width_px=300, height_px=200)),
    "a video": lh.Video(video(busy=True, width_px=320, height_px=240)),
    "a sound": lh.Audio(sound()),
    "a text": lh.Text("<script>alert(1)</script>" * 5000),
    "a blob": lh.Blob(bytes(100_000)),
    "no picture": lh.Image(b"<b>no picture</b>" * 5000),
    "no video": lh.Video(b"<b>no video</b>" * 5000),
    "no sound": lh.Audio(b"<b>no sound</b>" * 5000),
    "no text": lh.Text(b"\xff<b>"),
}


@pytest.mark.parametrize("what", MEDIA)
def test_a_notebook_shows_at_most_32_kb_and_nothing_of_the_data_as_markup(what):
    html = MEDIA[what]._repr_html_()
    assert len(html.encode()) <= 32 << 10
    assert ("<img" in html) == (what in {"a picture", "a turned picture", "a video"})
    assert "<script" not in html
    assert "<b>" not in html


def test_a_notebook_says_why_it_shows_nothing():
    assert "not an image" in MEDIA["no picture"]._repr_html_()


def test_an_unknown_kind_is_refused():
    with pytest.raises(InvalidArgumentError, match="no medium is called 'film'; there are image, video"):
        handle("film", BytesSource(b""))
