"""Text to tokens to sequences of one length without padding, and a small language model that learns from them."""

import pydoc

import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

import lakehouse as lh

torch.manual_seed(0)
torch.set_num_threads(1)
names = [f"{kind.__name__}.{name}" for kind in (str, bytes, dict, int) for name in dir(kind) if name != "__hash__"]
rows = [{"name": name, "text": pydoc.plain(pydoc.render_doc(name))} for name in names]
table = lh.connect("lake").create_table("docs", data=rows)


@lh.udf(pa.list_(pa.int32()))
def tokens(text: str) -> list[int]:
    return list(text.encode())


table.add_columns({"tokens": tokens})
table.backfill("tokens", udf=tokens)
loader = table.loader(packing=lh.Packing("tokens", sequence_length=128), batch_size=16, seed=1)

embed, recur, guess = torch.nn.Embedding(256, 32), torch.nn.GRU(32, 64, batch_first=True), torch.nn.Linear(64, 256)
optimizer = torch.optim.Adam([*embed.parameters(), *recur.parameters(), *guess.parameters()], lr=1e-2)
for epoch in range(2):
    for batch in loader:
        sequences, documents = batch["tokens"], batch["document_ids"]
        inside = documents[:, 1:] == documents[:, :-1]  # nothing is predicted across the border of two documents
        found = guess(recur(embed(sequences[:, :-1]))[0])
        loss = cross_entropy(found[inside], sequences[:, 1:][inside])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
    print(f"epoch {epoch}: {len(loader)} batches of {sequences.numel()} tokens without padding, loss {loss.item():.2f}")
