"""Find similar pictures, then ask DuckDB about the same table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from sklearn.datasets import load_digits

import lakehouse as lh


@lh.udf(pa.list_(pa.float32(), 64), batch=True)
def embed(image: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(i, np.float32).ravel() / 255 for i in image])


digits = load_digits()
for number, (pixels, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
    Path(f"digits/{label}").mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 15).astype(np.uint8)).save(f"digits/{label}/{number:03}.png")

lake = lh.connect("lake")
table = lake.create_table("digits", schema="images")
table.add(lh.read_images("digits", label_from="folder"), on_duplicate_key="skip")
table.add_columns({"embedding": embed})
table.backfill("embedding", udf=embed)
table.create_index("embedding", lh.IvfPq(num_partitions=4, num_sub_vectors=16))
table.create_index("id", lh.BTree())

query = table.to_arrow(["embedding"], where="label = '7'")["embedding"][0].as_py()
hits = table.search(query, k=5, columns=["label"])
print(hits.select(["label", "_distance"]).to_pylist())
print([row["image"].info.width_px for row in table.rows(hits["_rowid"])])

counts = lake.sql("SELECT label, count(*) AS n FROM digits WHERE width = $w GROUP BY 1 ORDER BY 1", {"w": 8})
print(counts.fetchall())
