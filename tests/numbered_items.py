"""A source of items to add, in a module of its own: processes that are killed load no more than it needs."""

import os

import pyarrow as pa

from lakehouse.data import Chunk
from lakehouse.failures import RowFailure

KEYED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False, metadata={"lakehouse:key": "true"}),
        pa.field("x", pa.int64()),
        pa.field("data", pa.large_binary()),
    ]
)


class Numbers:
    """A source of `total` items, one chunk each; items in `bad` cannot be read."""

    schema = KEYED
    fingerprint = "numbers"

    def __init__(self, total, bad=(), nbytes=0):
        self.total, self.bad, self.nbytes = total, bad, nbytes
        self.read = []

    def count(self):
        return self.total

    def chunks(self, done=frozenset()):
        for number in range(self.total):
            item = f"item-{number}"
            if item in done:
                continue
            self.read.append(number)
            rows = [] if number in self.bad else [{"id": f"k{number}", "x": number, "data": os.urandom(self.nbytes)}]
            failures = (RowFailure(item, "DataError", "broken on purpose"),) if number in self.bad else ()
            yield Chunk(pa.RecordBatch.from_pylist(rows, schema=KEYED), (item,), failures)
