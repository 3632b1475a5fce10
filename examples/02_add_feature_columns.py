"""Add feature columns without touching what is stored: an SQL expression, a function, and a function of two outputs."""

import numpy as np
import pyarrow as pa
from PIL import Image
from skimage import data

import lakehouse as lh


@lh.udf(pa.float32(), version="1")
def brightness(image: Image.Image) -> float:
    return float(np.asarray(image.convert("L")).mean())


@lh.udf({"num_colors": pa.int32(), "is_gray": pa.bool_()})
def colors(image: Image.Image) -> tuple[int, bool]:
    pixels = np.asarray(image.convert("RGB").resize((64, 64))).reshape(-1, 3)
    return len(np.unique(pixels, axis=0)), bool((pixels == pixels[:, :1]).all())


for name in ("coffee", "chelsea", "camera", "coins"):
    Image.fromarray(getattr(data, name)()).save(f"{name}.png")

pets = lh.connect("lake").create_table("pets", schema="images")
pets.add(lh.read_images("*.png"))
pets.add_columns({"brightness": brightness, "area": "width * height", "colors": colors})
print(pets.backfill("brightness", udf=brightness))
print(pets.backfill("colors", udf=colors))
print(pets.backfill("area"))

pets.update("width > 500", {"split": "train"})  # no input of a feature: all stay fresh
pets.update("width > 500", {"width": 500})  # an input of `area`: these rows are stale at once
for feature in pets.features().to_pylist():
    print(feature["column"], feature["state"], f"{feature['coverage']:.0%}", "from", feature["inputs"])
