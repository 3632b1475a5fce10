"""All generated statements, and as many again that nobody has seen; their figures are kept."""

import random
import time
from collections import Counter

import pytest

import lakehouse as lh
from tests import sql_lake
from tests.soak.reports import save
from tests.sql_generator import generate
from tests.test_sql_generated import MEMORY, check

pytestmark = pytest.mark.soak

NUM_QUERIES = 500


@pytest.mark.parametrize("memory", MEMORY)
def test_every_answer_is_that_of_duckdb_over_parquet(tmp_path, memory):
    made = sql_lake.make(tmp_path)
    lake = lh.connect(made.lake.uri, sql_limits=lh.SqlLimits(resident_nbytes=MEMORY[memory]))
    first = random.randrange(NUM_QUERIES, 2**32)
    wrong, found = [], Counter()
    start = time.perf_counter()
    for seed in [*range(NUM_QUERIES), *range(first, first + NUM_QUERIES)]:
        try:
            num_rows = check(lake, made.reference, generate(seed, made.versions))
        except AssertionError as error:
            wrong.append(str(error))
        else:
            found["with rows" if num_rows else "without rows"] += 1
    figures = {
        "num_queries": 2 * NUM_QUERIES,
        "num_equal": sum(found.values()),
        "num_equal_with_rows": found["with rows"],
        "num_different": len(wrong),
        "seeds": [0, first],
        "num_versions_of_tables": {name: len(numbers) for name, numbers in made.versions.items()},
        "seconds": round(time.perf_counter() - start, 1),
    }
    save("soak_sql", {memory: figures})
    assert not wrong, "\n\n".join(wrong[:5])
