"""Functions that write down what they were called with, for tests that count calls over several processes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import lakehouse as lh

BATCH = 10


@lh.udf(pa.int64(), batch=True, batch_size=BATCH, version="1")
def tripled(x: pa.Array) -> pa.Array:
    with Path("calls").open("a") as file:
        file.writelines(f"{value}\n" for value in x.to_pylist())
    return pc.multiply(x, 3)


def calls():
    return [int(line) for line in Path("calls").read_text().split()] if Path("calls").exists() else []
