"""Learn from clips which way a square moves: of each video four frames are decoded, drawn anew in every epoch."""

from pathlib import Path

import av
import numpy as np
import torch
from torch.nn.functional import cross_entropy

import lakehouse as lh

rng = np.random.default_rng(0)
for number in range(48):
    (folder := Path("videos", ("left", "right")[number % 2])).mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / f"{number}.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        row, column = rng.integers(0, 24, 2)
        for moment in range(24):
            pixels = np.zeros((32, 32, 3), np.uint8)
            pixels[row : row + 8, (column + (-moment, moment)[number % 2] + np.arange(8)) % 32] = 150 + 2 * number
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
table = lh.connect("lake").create_table("clips", schema="videos")
table.add(lh.read_videos("videos/**/*.mp4", label_from="folder"), progress=False)

clips = {"video": lh.Clip(num_frames=4, stride=2, policy="random")}
loader = table.loader(columns=["video", "label"], decode=clips, batch_size=16, seed=3)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 63, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
for epoch in range(4):
    for batch in loader:
        seen = torch.fft.rfft(batch["video"][:, :, 0].float().mean(2))  # (batch, frame, frequency along x)
        moved = torch.fft.irfft(seen[:, 1:] * seen[:, :-1].conj(), 63)  # how far between two frames
        right = torch.tensor([label == "right" for label in batch["label"]]).long()
        loss = cross_entropy(model(moved / moved.std()), right)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
    print(f"epoch {epoch}: the first clip begins at {batch['video_pts_s'][0, 0].item():.2f} s, loss {loss.item():.2f}")
