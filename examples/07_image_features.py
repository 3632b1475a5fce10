"""Look at each picture once for four features, a thumbnail among them; see what failed, mend it, take it back."""

import numpy as np
import pyarrow as pa
from PIL import Image
from skimage import color, data, filters

import lakehouse as lh

COLUMNS = {"dominant": "string", "phash": pa.uint64(), "edges": pa.float32(), "thumb": "image"}


@lh.udf(COLUMNS)
def look(image: Image.Image) -> tuple[str, int, float, Image.Image]:
    pixels = np.asarray(thumb := image.resize((96, 96)))
    bins, counts = np.unique(pixels.reshape(-1, 3) // 64 * 64, axis=0, return_counts=True)
    cells = (gray := color.rgb2gray(pixels)).reshape(8, 12, 8, 12).mean(axis=(1, 3)).ravel()
    phash = int((cells > np.median(cells)) @ (1 << np.arange(64, dtype=np.uint64)))
    edges = filters.sobel(gray).mean()  # type: ignore[no-untyped-call]  # scikit-image has no type here
    return "#" + bins[counts.argmax()].tobytes().hex(), phash, edges, thumb


@lh.udf(COLUMNS)
def look_in_color(image: Image.Image) -> tuple[str, int, float, Image.Image]:
    return look(image.convert("RGB"))  # type: ignore[no-any-return]  # a UDF gives what the function does


for name in ("astronaut", "coffee", "chelsea", "rocket", "camera"):
    Image.fromarray(getattr(data, name)()).save(f"{name}.png")
table = lh.connect("lake").create_table("pictures", schema="images", data=lh.read_images("*.png"))
table.add_columns({"look": look})
print(f"tried on two: {table.preview(look, n=2).seconds_per_row:.3f} s a picture")
before = table.backfill("look", udf=look)
print(before.num_filled, "filled; failed:", table.errors("look")["message"].to_pylist())

table.alter_udf("look", look_in_color)
print(table.features().select(["column", "state"]).to_pylist())
print(table.backfill("look", udf=look_in_color).num_filled, "filled;", table.rows([0])[0]["thumb"].info)
table.rollback_column("look", version=before.version)
print(table.features().select(["column", "state", "num_failed"]).to_pylist())
