"""Pictures of all sizes and kinds in batches of one size, and the two decoders that give the same pixels."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lakehouse import types
from lakehouse.errors import DataError, InvalidArgumentError, MediaError, SchemaError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.forms.sizes import Pad, Resize
from lakehouse.media import jpeg
from lakehouse.media.codecs import decode_image, decode_rgb, encode_image
from tests.media_files import noise, picture

sides = st.integers(1, 90)


def smooth(width_px, height_px):
    y, x = np.mgrid[0:height_px, 0:width_px]
    return np.stack([127 + 100 * np.sin(x / 9 + y / 23), 127 + 100 * np.cos(x / 31), y % 256], axis=-1).astype(np.uint8)


def stored(lake, images, storage=None):
    fields = [types.field("image", "image", storage=storage), pa.field("x", pa.int64())]
    table = lake.create_table("pictures", schema=pa.schema(fields))
    table.add(pa.table({"image": pa.array(images, pa.large_binary()), "x": range(len(images))}))
    return table.snapshot()


def only_batch(snapshot, **options):
    num_rows = snapshot.num_rows
    (batch,) = Loader(snapshot, LoaderOptions(batch_size=num_rows, shuffle=False, **options))
    return batch


@given(sides, sides, sides, sides)
def test_what_is_resized_has_the_size_wanted_and_the_mean_it_had(width_px, height_px, to_width_px, to_height_px):
    pixels = smooth(width_px, height_px)
    size = Resize(to_height_px, to_width_px)
    got = decode_rgb(encode_image(pixels), fit=size.inside)
    assert got.shape == (to_height_px, to_width_px, 3)
    if (to_width_px, to_height_px) == (width_px, height_px):
        assert np.array_equal(got, pixels)
    assert pixels.min() <= got.min() <= got.max() <= pixels.max()


@given(sides, sides, sides, sides)
def test_what_is_padded_keeps_its_proportions_and_is_never_enlarged(width_px, height_px, to_width_px, to_height_px):
    size = Pad(to_height_px, to_width_px)
    width, height = size.inside(width_px, height_px)
    assert 1 <= width <= min(width_px, to_width_px)
    assert 1 <= height <= min(height_px, to_height_px)
    assert (width, height) == (width_px, height_px) or width == to_width_px or height == to_height_px
    assert abs(width * height_px - height * width_px) <= max(width_px, height_px)  # half a pixel on either side
    whole = size.padded(np.full((height, width, 3), 7, np.uint8))
    assert whole.shape == (to_height_px, to_width_px, 3)
    assert (whole.sum(), whole[:height, :width].sum()) == (7 * 3 * height * width,) * 2


SIZES = [(40, 30), (30, 40), (100, 10), (7, 7)]


def test_pictures_of_all_sizes_stack_when_they_are_resized(lake):
    snapshot = stored(lake, [encode_image(smooth(*size)) for size in SIZES])
    batch = only_batch(snapshot, decode={"image": Resize(16, 20)})
    assert (batch["image"].shape, batch["image"].dtype) == ((4, 3, 16, 20), torch.uint8)
    assert set(batch) == {"image", "x"}
    for pixels, size in zip(batch["image"], SIZES, strict=True):
        wanted = Image.fromarray(smooth(*size)).resize((20, 16), Image.Resampling.BILINEAR, reducing_gap=2.0)
        assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(wanted))


@pytest.mark.parametrize("by_row", [False, True])
def test_padded_pictures_come_with_the_size_they_have(lake, by_row):
    images = [smooth(*size) for size in SIZES]
    snapshot = stored(lake, [encode_image(pixels) for pixels in images])
    options = {"transform": dict} if by_row else {}
    batch = only_batch(snapshot, decode={"image": Pad(40, 50)}, **options)
    assert batch["image"].shape == (4, 3, 40, 50)
    assert (batch["image_size"].tolist(), batch["image_size"].dtype) == (
        [[30, 40], [40, 30], [5, 50], [7, 7]],
        torch.int64,
    )
    for pixels, (height, width), original in zip(batch["image"], batch["image_size"].tolist(), images, strict=True):
        if (height, width) == original.shape[:2]:
            assert np.array_equal(pixels[:, :height, :width].permute(1, 2, 0).numpy(), original)
        assert not pixels[:, height:].any()
        assert not pixels[:, :, width:].any()


def test_pictures_lie_in_memory_as_they_are_decoded(lake):
    snapshot = stored(lake, [encode_image(smooth(40, 30))] * 3)
    batch = only_batch(snapshot)
    assert batch["image"].is_contiguous(memory_format=torch.channels_last)


def test_a_picture_can_stay_as_it_is_stored(lake):
    images = [encode_image(smooth(*size)) for size in SIZES]
    batch = only_batch(stored(lake, [*images, None, b"no picture"]), decode={"image": None})
    assert batch["image"] == [*images, None, b"no picture"]


def test_a_size_for_what_is_no_picture_is_refused_by_name(lake):
    snapshot = stored(lake, [encode_image(smooth(4, 3))])
    for decode, said in (
        ({"x": Resize(4, 4)}, "'x', which is int64 and takes nothing"),
        ({"imgae": Resize(4, 4)}, "decode names 'imgae', and the columns read are image, x"),
        ({"image": 224}, r"224 for 'image', which is image and takes lh.Resize\(…\) or lh.Pad"),
    ):
        with pytest.raises((SchemaError, InvalidArgumentError), match=said):
            Loader(snapshot, LoaderOptions(decode=decode))


def test_sound_is_refused_by_name(lake):
    table = lake.create_table("sounds", schema=pa.schema([types.field("sound", "audio")]))
    with pytest.raises(SchemaError, match="'sound', which is audio and takes nothing"):
        Loader(table.snapshot(), LoaderOptions(decode={"sound": Resize(4, 4)}))


def test_a_name_that_a_padded_picture_brings_must_be_free(lake):
    fields = [types.field("image", "image"), pa.field("image_size", pa.int64())]
    table = lake.create_table("both", schema=pa.schema(fields))
    with pytest.raises(InvalidArgumentError, match="'image_size' beside it, which is a column"):
        Loader(table.snapshot(), LoaderOptions(decode={"image": Pad(4, 4)}))
    Loader(table.snapshot(), LoaderOptions(columns=["image"], decode={"image": Pad(4, 4)}))


@pytest.mark.parametrize("size", [Resize, Pad])
@pytest.mark.parametrize("sides", [(0, 4), (4, -1), (4, 2.5), (True, 4), (4, 20_000)])
def test_a_size_is_whole_pixels(size, sides):
    with pytest.raises(InvalidArgumentError, match="_px is .*whole number of pixels"):
        size(*sides)


# Kinds and damage


def kinds():
    """Every kind of picture the codecs read: grey, palette, alpha, 16 bit, CMYK, upside down, of an animation."""
    grey16 = Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 20)
    turned = Image.fromarray(smooth(64, 48)).getexif()
    turned[0x0112] = 6
    pixels = Image.fromarray(smooth(64, 48))

    def saved(image, kind, **options):
        image.save(file := io.BytesIO(), kind, **options)
        return file.getvalue()

    return {
        "grey": saved(pixels.convert("L"), "PNG"),
        "palette": saved(pixels.convert("P"), "PNG"),
        "alpha": saved(pixels.convert("RGBA"), "PNG"),
        "grey with alpha": saved(pixels.convert("LA"), "PNG"),
        "16 bit": saved(grey16, "PNG"),
        "1 bit": saved(pixels.convert("1"), "PNG"),
        "cmyk": saved(pixels.convert("CMYK"), "JPEG"),
        "grey jpeg": saved(pixels.convert("L"), "JPEG"),
        "turned": saved(pixels, "JPEG", exif=turned),
        "progressive": saved(pixels, "JPEG", progressive=True),
        "webp": saved(pixels, "WEBP"),
        "gif": saved(pixels, "GIF", save_all=True, append_images=[pixels.rotate(90)]),
        "bmp": saved(pixels, "BMP"),
    }


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_of_picture_becomes_rgb_as_it_is_stored(kind, lake):
    data = kinds()[kind]
    batch = only_batch(stored(lake, [data, data]))
    assert batch["image"].shape == (2, 3, 48, 64)
    assert np.array_equal(batch["image"][1].permute(1, 2, 0).numpy(), decode_rgb(data))
    small = only_batch(lake.open_table("pictures").snapshot(), decode={"image": Resize(24, 32)})
    near = Image.fromarray(decode_rgb(data)).resize((32, 24), Image.Resampling.BILINEAR)
    apart = np.abs(small["image"][0].permute(1, 2, 0).numpy().astype(int) - np.asarray(near))
    assert apart.mean() < 2


@pytest.mark.parametrize("decode", [{}, {"image": Resize(8, 8)}, {"image": Pad(8, 8)}])
@pytest.mark.parametrize("storage", ["inline", "blob"])
def test_a_cut_picture_is_a_bad_row_whatever_is_done_to_it(lake, decode, storage):
    good = picture(width_px=40, height_px=30)
    snapshot = stored(lake, [good, good[: len(good) // 2], good, good[:3], b""], storage)
    with pytest.raises(MediaError, match=r"column 'image' of row id 1: .*on_bad_rows="):
        only_batch(snapshot, decode=decode)
    for on_bad_rows in ("mask", "substitute"):
        loader = Loader(snapshot, LoaderOptions(batch_size=5, shuffle=False, decode=decode, on_bad_rows=on_bad_rows))
        (batch,) = loader
        assert len(batch["x"]) == 5
        assert loader.stats().num_bad_rows == 3
        assert batch["x"].tolist() == ([0, 0, 2, 0, 0] if on_bad_rows == "mask" else [0, 2, 2, 0, 0])


def test_a_huge_picture_is_refused_before_it_is_decoded(lake):
    Image.new("1", (20_000, 20_000)).save(file := io.BytesIO(), "PNG")
    with pytest.raises(MediaError, match="the limit is max_pixels"):
        only_batch(stored(lake, [file.getvalue()]), decode={"image": Resize(8, 8)})


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same():
    data = encode_image(smooth(1600, 1200), "JPEG")
    got = decode_rgb(data, fit=Resize(100, 120).inside)
    whole = Image.fromarray(decode_rgb(data)).resize((120, 100), Image.Resampling.BILINEAR)
    assert np.abs(got.astype(int) - np.asarray(whole)).mean() < 1.5


def test_pictures_of_two_sizes_without_a_policy_are_refused(lake):
    snapshot = stored(lake, [encode_image(smooth(4, 3)), encode_image(smooth(3, 4))])
    with pytest.raises(DataError, match=r"decode=.*Resize"):
        only_batch(snapshot)


# The faster decoder


@settings(max_examples=60, deadline=None)
@given(sides, sides, st.integers(1, 100), st.sampled_from([0, 1, 2]), st.booleans(), st.booleans())
def test_both_decoders_give_the_same_pixels(width_px, height_px, quality, subsampling, progressive, grey):
    image = Image.fromarray(noise(width_px, height_px))
    image = image.convert("L") if grey else image
    options = {} if grey else {"subsampling": subsampling}
    image.save(file := io.BytesIO(), "JPEG", quality=quality, progressive=progressive, **options)
    pillow = np.asarray(decode_image(file.getvalue()).convert("RGB"))
    assert np.array_equal(jpeg.decoded(file.getvalue(), 10_000), pillow)


@pytest.mark.parametrize("kind", ["cmyk", "webp", "gif", "grey"])
def test_what_the_faster_decoder_cannot_is_left_to_pillow(kind):
    assert jpeg.decoded(kinds()[kind], 10_000) is None


def test_the_faster_decoder_leaves_large_and_damaged_ones_to_pillow():
    good = picture(width_px=40, height_px=30)
    assert jpeg.decoded(good, 40 * 30 - 1) is None
    assert jpeg.decoded(good[:-40], 10_000) is None
    assert jpeg.decoded(good[:50], 10_000) is None


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_gives_what_pillow_gives(data):
    good = bytearray(picture(width_px=40, height_px=30))
    for at in data.draw(st.lists(st.integers(2, len(good) - 1), min_size=1, max_size=5)):
        good[at] ^= data.draw(st.integers(1, 255))
    damaged = bytes(good)
    try:
        wanted = np.asarray(decode_image(damaged).convert("RGB"))
    except MediaError:
        with pytest.raises(MediaError):
            decode_rgb(damaged)
    else:
        assert np.array_equal(decode_rgb(damaged), wanted)


def test_without_the_faster_decoder_nothing_changes_but_the_time(monkeypatch):
    data = picture(width_px=40, height_px=30)
    fast = decode_rgb(data)
    monkeypatch.setattr(jpeg, "_turbo", lambda: None)  # as where simplejpeg is not installed
    assert np.array_equal(decode_rgb(data), fast)
