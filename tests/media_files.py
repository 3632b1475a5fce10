"""Pictures, videos and sounds made on the spot, small and the same every time."""

import io
import wave
from functools import cache

import av
import numpy as np
from PIL import Image

VIDEOS = {
    "mp4": ("mp4", "libx264"),
    "fragmented mp4": ("mp4", "libx264"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx-vp9"),
    "webm vp8": ("webm", "libvpx"),
    "avi": ("avi", "mpeg4"),
    "mpegts": ("mpegts", "mpeg2video"),
}


def noise(width_px=40, height_px=30, channels=3, seed=0):
    """Return uint8 pixels of shape (height, width[, channels]), different everywhere."""
    shape = (height_px, width_px, channels) if channels > 1 else (height_px, width_px)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def picture(kind="JPEG", seed=0, width_px=40, height_px=30, **options):
    """Return a picture file; `options` go to Pillow."""
    file = io.BytesIO()
    Image.fromarray(noise(width_px, height_px, seed=seed)).save(file, kind, **options)
    return file.getvalue()


@cache
def video(
    kind="mp4", num_frames=60, fps=25, gop=20, width_px=64, height_px=48, rotation=0, with_sound=False, busy=False
):
    """Return a video file of frames that differ from each other; `busy` ones are noise that does not compress."""
    container, codec = VIDEOS[kind]
    options = {"movflags": "frag_keyframe+empty_moov"} if kind.startswith("fragmented") else {}
    out = io.BytesIO()
    with av.open(out, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width_px, height_px, "yuv420p", gop
        if rotation:
            stream.set_display_rotation(rotation)
        sound = file.add_stream("aac", rate=8000, layout="mono") if with_sound else None
        for number in range(num_frames):
            if busy:
                pixels = noise(width_px, height_px, seed=number)
            else:
                pixels = np.zeros((height_px, width_px, 3), np.uint8)
                pixels[:, : number % width_px] = 200
                pixels[: height_px // 2, :, 1] = 4 * number % 256
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        file.mux(stream.encode(None))
        if sound is not None:
            wave_form = np.sin(np.arange(num_frames * 8000 // fps) / 5).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave_form[None], "fltp", "mono")
            frame.sample_rate = 8000
            file.mux(sound.encode(frame))
            file.mux(sound.encode(None))
    return out.getvalue()


def all_frames(data):
    """Decode every frame from first to last, as arrays: what the library is compared with."""
    with av.open(io.BytesIO(data)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def sound(num_samples=4000, rate_hz=8000, channels=1):
    """Return a WAV file of a sine."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        samples = (12000 * np.sin(np.arange(num_samples * channels) / 7)).astype(np.int16)
        writer.writeframes(samples.tobytes())
    return file.getvalue()
