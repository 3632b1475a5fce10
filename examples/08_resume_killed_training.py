"""Train on pictures, be killed in mid-epoch, go on from the checkpoint: the losses of a run that nobody killed."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.nn import Flatten, Linear, ReLU, Sequential

import lakehouse as lh


def train(run: str, dies_after: int) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a small model; more threads would wait for each other
    model, losses = Sequential(Flatten(), Linear(192, 64), ReLU(), Linear(64, 10)), []
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    loader = lh.connect("lake").open_table("digits").loader(columns=["image", "label"], batch_size=64, seed=7)
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer, "loader": loader}
    if (checkpoint := Path(f"{run}.pt")).exists():
        saved = torch.load(checkpoint)
        losses = saved.pop("losses")
        print(f"{run} run goes on after {len(losses)} batches")
        for name, state in saved.items():
            parts[name].load_state_dict(state)
    while len(losses) < 112:  # four epochs; each iteration of the loader is the next one
        for batch in loader:
            loss = torch.nn.functional.cross_entropy(model(batch["image"] / 255), batch["label"])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
            optimizer.step()
            losses.append(loss.item())
            if len(losses) == dies_after:
                os.kill(os.getpid(), signal.SIGKILL)
            if len(losses) % 10 == 0:
                torch.save({name: part.state_dict() for name, part in parts.items()} | {"losses": losses}, "part")
                Path("part").replace(checkpoint)  # all of it or nothing


def digits() -> list[dict[str, Any]]:
    from PIL import Image
    from sklearn.datasets import load_digits

    rows = []
    for pixels, label in zip(load_digits().images, load_digits().target, strict=True):
        Image.fromarray((pixels * 15).astype("uint8")).save(file := io.BytesIO(), "PNG")
        rows.append({"image": file.getvalue(), "label": int(label)})
    return rows


if len(sys.argv) > 1:
    train(sys.argv[1], int(sys.argv[2]))
else:
    schema = lh.Schema.parse('name = "digits"\n[columns]\nimage = {type = "image"}\nlabel = {type = "int64"}')
    lh.connect("lake").create_table("digits", schema=schema, data=digits())
    train("whole", dies_after=0)
    for dies_after in ("47", "0"):
        done = subprocess.run([sys.executable, __file__, "killed", dies_after], check=False).returncode
        print("killed run ended with", done, flush=True)
    whole, killed = (torch.load(f"{run}.pt")["losses"] for run in ("whole", "killed"))
    assert whole == killed
    print(f"loss {whole[0]:.2f} to {whole[-1]:.2f}; equal in all {len(whole)} batches")
