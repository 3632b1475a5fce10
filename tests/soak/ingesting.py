"""What a process of an ingest soak runs: the public calls a user makes, and what memory they take.

Imports nothing but the library, whose memory is measured.
"""

import json
import sys
import time
from pathlib import Path

import lakehouse as lh

FAMILIES = {"images": "images", "videos": "videos", "texts": "documents"}
_READERS = {"images": "read_images", "videos": "read_videos", "texts": "read_texts"}


def add(lake, folder, table):
    """Make the table if it is not there, and add its files."""
    target = lh.connect(lake).create_table(table, schema=FAMILIES[table], exist_ok=True)
    source = getattr(lh, _READERS[table])(Path(folder) / table)
    return target.add(source, on_bad_rows="record", progress=False)


def peak_nbytes(*, forget=False):
    """Return the largest resident set since the process began or was last told to forget.

    Not `resource.getrusage`: a child starts with the peak of the process that started it, and a baseline as high as that
    would hide what comes after.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    if forget:
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): reset the peak to what is resident now
    return peak


def main(lake, folder):
    """Add all tables and print the figures as JSON; the baseline is the library, imported, with the tables open."""
    for table, family in FAMILIES.items():
        len(lh.connect(lake).create_table(table, schema=family))
    peak_nbytes(forget=True)
    baseline = peak_nbytes()
    figures = {"baseline_nbytes": baseline, "tables": {}}
    for table in FAMILIES:
        start = time.perf_counter()
        result = add(lake, folder, table)
        figures["tables"][table] = {
            "num_rows": result.num_rows,
            "num_failed": result.num_failed,
            "nbytes_written": result.nbytes_written,
            "seconds": round(time.perf_counter() - start, 1),
            "peak_over_baseline_nbytes": peak_nbytes(forget=True) - baseline,
        }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
