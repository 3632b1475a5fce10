"""Keep videos in a table and open single frames: only the bytes around them are read."""

import av
import numpy as np

import lakehouse as lh

with av.open("clip.mp4", "w") as container:
    stream = container.add_stream("mpeg4", rate=24)
    stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
    for number in range(96):
        pixels = np.full((120, 160, 3), 2 * number, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
    container.mux(stream.encode())

table = lh.connect("lake").create_table("clips", schema="videos")
table.add(lh.read_videos("*.mp4"))
video = table.rows([0])[0]["video"]
print(video.info)
print("at 2.5 s:", video.frame_at(2.5).getpixel((80, 60)))
print("two a second:", [frame.getpixel((80, 60))[0] for frame in video.frames(0.0, 4.0, fps=2)])
