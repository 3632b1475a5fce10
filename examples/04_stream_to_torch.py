"""Train on a table: batches of tensors in an order that is the same on every machine, resumed by one integer."""

import numpy as np
import torch
from sklearn.datasets import load_digits

import lakehouse as lh

digits = load_digits()
rows = [
    {"pixels": p.ravel().astype(np.float32), "label": int(t)} for p, t in zip(digits.images, digits.target, strict=True)
]
schema = lh.Schema.parse(
    'name = "digits"\n[columns]\npixels = {type = "vector<float32>[64]"}\nlabel = {type = "int64"}'
)
table = lh.connect("lake").create_table("digits", schema=schema, data=rows)

model = torch.nn.Linear(64, 10)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
loader = table.loader(columns=["pixels", "label"], batch_size=128, shuffle=True, seed=7)
for epoch in range(3):
    loader.set_epoch(epoch)
    for batch in loader:
        loss = torch.nn.functional.cross_entropy(model(batch["pixels"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
    print(f"epoch {epoch}: {len(loader)} batches, loss {loss.item():.2f}")

state = loader.state_dict()
print("to resume:", state)
