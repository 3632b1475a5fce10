"""Put a folder of pictures into a table; one broken file does not stop the rest, and does not vanish either."""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

import lakehouse as lh

photos = Path("photos")
for name in ("astronaut", "coffee", "chelsea", "rocket"):
    (photos / name).mkdir(parents=True)
    Image.fromarray(getattr(data, name)()).resize((256, 192)).save(photos / name / "1.jpg")
(photos / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")

lake = lh.connect("lake")
pets = lake.create_table("pets", schema="images")
result = pets.add(lh.read_images(photos, label_from="folder"), on_bad_rows="record")
print(f"{result.num_rows} pictures stored, {result.num_failed} file failed")
print(pets.errors().select(["key", "message"]).to_pylist())

row = pets.rows([0])[0]
print(row["label"], row["image"].info)
pixels = row["image"].numpy()
print(pixels.shape, np.asarray(pixels).dtype)
