import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from lakehouse.errors import InvalidArgumentError, MediaError
from lakehouse.media.codecs import FORMATS, check_image, decode_image, decode_rgb, encode_image, image_info
from lakehouse.media.thumbnails import thumbnail
from tests import broken_files
from tests.media_files import noise, picture

sizes = st.integers(1, 20)
pixels = st.tuples(sizes, sizes, st.sampled_from([(), (3,), (4,)])).flatmap(
    lambda s: arrays(np.uint8, (s[0], s[1], *s[2]))
)


class CountingFile(io.BytesIO):
    nbytes_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.nbytes_read += len(data)
        return data


@given(pixels)
def test_png_gives_back_the_pixels_it_was_given(x):
    assert np.array_equal(np.asarray(decode_image(encode_image(x))), x)


@given(st.tuples(sizes, sizes).flatmap(lambda s: arrays(np.uint8, (*s, 3))), st.sampled_from(["PNG", "WEBP", "BMP"]))
def test_formats_without_loss_give_back_rgb(x, kind):
    assert np.array_equal(decode_rgb(encode_image(x, kind)), x)


@given(st.integers(1, 120), st.integers(1, 120), st.sampled_from(FORMATS))
@settings(max_examples=40)
def test_the_header_says_what_decoding_shows_from_bytes_and_from_a_file(width_px, height_px, kind):
    data = picture(kind, width_px=width_px, height_px=height_px)
    info = image_info(data)
    assert (info.width_px, info.height_px, info.format) == (width_px, height_px, kind)
    assert decode_image(data).size == (width_px, height_px)
    assert image_info(io.BytesIO(data)) == info == check_image(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_the_header_of_a_large_file_costs_one_read_of_64_kb(kind):
    file = CountingFile(picture(kind, width_px=800, height_px=600))
    assert len(file.getvalue()) > 200_000
    image_info(file)
    assert file.nbytes_read == 64 << 10


def test_a_header_longer_than_64_kb_is_read():
    data = picture("JPEG", icc_profile=bytes(200_000))
    assert image_info(io.BytesIO(data)) == image_info(data)


def test_pixels_are_not_decoded_for_the_header():
    good = picture("PNG", width_px=200, height_px=200)
    at = good.index(b"IDAT") + 100
    broken = good[:at] + b"\0" * 50 + good[at + 50 :]
    assert image_info(broken).width_px == 200
    with pytest.raises(MediaError):
        check_image(broken)


GOOD = {kind: picture(kind, width_px=90, height_px=70, seed=3) for kind in FORMATS}


@given(st.sampled_from(FORMATS), st.floats(0, 1, exclude_max=True))
@settings(max_examples=150)
def test_a_cut_file_is_refused_unless_all_its_pixels_are_there(kind, part):
    data = GOOD[kind][: int(len(GOOD[kind]) * part)]
    try:
        check_image(data)
    except MediaError:
        return
    assert np.array_equal(decode_rgb(data), decode_rgb(GOOD[kind]))


@given(st.sampled_from(FORMATS), st.data())
@settings(max_examples=150)
def test_damage_anywhere_ends_in_a_picture_or_a_media_error(kind, draw):
    data = bytearray(GOOD[kind])
    for at in draw.draw(st.lists(st.integers(0, len(data) - 1), min_size=1, max_size=8)):
        data[at] ^= draw.draw(st.integers(1, 255))
    for action in (check_image, decode_image, decode_rgb):
        with contextlib.suppress(MediaError):
            action(bytes(data), max_pixels=1_000_000)


@given(
    st.sampled_from(
        sorted(m for m in (b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF\x10\0\0\0WEBP"))
    ),
    st.binary(max_size=300),
)
@settings(max_examples=150)
def test_noise_behind_a_magic_number_is_a_media_error_or_a_picture(magic, rest):
    with contextlib.suppress(MediaError):
        decode_image(magic + rest, max_pixels=10_000)


def test_one_flipped_bit_in_a_png_is_found_without_decoding():
    data = bytearray(GOOD["PNG"])
    data[len(data) // 2] ^= 1
    with pytest.raises(MediaError, match="PNG of 90 x 70 px does not decode"):
        check_image(bytes(data))


def test_a_cut_jpeg_is_refused_though_its_embedded_thumbnail_is_whole():
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + picture("JPEG", width_px=20, height_px=20)
    good = picture("JPEG", width_px=200, height_px=200, exif=exif)
    assert check_image(good).width_px == 200
    with pytest.raises(MediaError, match="truncated"):
        check_image(good[: len(good) // 2])


def test_a_jpeg_with_junk_behind_its_end_is_whole():
    assert check_image(picture("JPEG") + b"camera trailer").format == "JPEG"


def test_a_bomb_is_refused_by_its_header_naming_the_limit(tmp_path):
    data = broken_files.break_file(tmp_path / "bomb.png", "bomb", b"").read_bytes()
    assert len(data) < 200
    for action in (image_info, decode_image, decode_rgb, check_image):
        with pytest.raises(MediaError, match=r"60000 x 60000 px .* limit is max_pixels=50,000,000"):
            action(data)


def test_the_limit_is_the_callers_and_no_global_of_pillow_matters(monkeypatch):
    data = picture("PNG", width_px=30, height_px=30)
    with pytest.raises(MediaError, match="max_pixels=899"):
        image_info(data, max_pixels=899)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(data, max_pixels=900).size == (30, 30)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"hello world, this is text", "not an image .*hello"),
        (b"II*\0" + bytes(40), "TIFF is not read"),
        (b"%PDF-1.7 " + bytes(40), "PDF is not read"),
        (b"%!PS-Adobe " + bytes(40), "EPS is not read"),
        (b"8BPS" + bytes(40), "PSD is not read"),
        (b"\0\0\0\x20ftypavif" + bytes(40), "AVIF is not read"),
    ],
)
def test_what_is_no_picture_of_the_allow_list_is_named(data, says):
    for action in (image_info, decode_image):
        with pytest.raises(MediaError, match=f"{says}.*JPEG, PNG, WEBP, GIF, BMP|empty"):
            action(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_read_and_only_thumbnails_are_turned(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = picture(kind, width_px=64, height_px=32, exif=exif)
    assert image_info(data).orientation == orientation
    assert decode_image(data).size == (64, 32)
    turned = orientation >= 5
    assert decode_image(thumbnail(data, 32)).size == ((16, 32) if turned else (32, 16))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, which is no reason to refuse the picture
def test_a_broken_exif_block_is_upright(exif):
    assert image_info(picture("JPEG", exif=exif)).orientation == 1


def test_every_kind_of_pixels_becomes_rgb():
    grey, rgb = noise(channels=1), noise()
    transparent = Image.fromarray(rgb).quantize(16)
    sixteen = Image.fromarray(grey.astype(np.uint16) * 256 + 7)
    for image, kind in (
        (Image.fromarray(grey), "PNG"),
        (Image.fromarray(rgb).quantize(16), "PNG"),
        (Image.fromarray(rgb).convert("CMYK"), "JPEG"),
        (Image.fromarray(noise(channels=4)), "PNG"),
        (Image.fromarray(grey).convert("LA"), "PNG"),
        (Image.fromarray(grey).convert("1"), "PNG"),
    ):
        assert decode_rgb(encode_image(image, kind)).shape == (30, 40, 3)
    file = io.BytesIO()
    transparent.save(file, "PNG", transparency=bytes([0, 128] * 8))
    assert decode_rgb(file.getvalue()).shape == (30, 40, 3)
    assert np.array_equal(decode_rgb(encode_image(sixteen))[..., 0], grey)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "CMYK", "1", "I;16", "F"])
def test_a_thumbnail_fits_its_bytes_and_its_side(mode):
    picture_ = Image.fromarray(noise(900, 600))
    picture_ = Image.fromarray(noise(900, 600, 1).astype(np.uint16) * 200) if mode == "I;16" else picture_.convert(mode)
    small = thumbnail(picture_, 128, max_nbytes=3_000)
    assert len(small) <= 3_000
    assert max(decode_image(small).size) <= 128


def test_a_small_picture_is_not_blown_up():
    assert decode_image(thumbnail(picture("PNG", width_px=10, height_px=5))).size == (10, 5)


@pytest.mark.parametrize(
    ("image", "kind", "says"),
    [
        (noise(channels=4), "JPEG", "JPEG"),
        (noise(), "TIFF", "choose JPEG, PNG"),
        (np.zeros((3, 3), np.complex64), "PNG", r"complex64 \(3, 3\)"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(image, kind, says):
    with pytest.raises(InvalidArgumentError, match=says):
        encode_image(image, kind)


def test_a_png_whose_declared_data_is_missing_does_not_decode():
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 50, 50, 8, 2, 0, 0, 0)
    end = b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end
    with pytest.raises(MediaError):
        decode_image(data)
