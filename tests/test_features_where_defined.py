"""A function may be written in a script, in a notebook or in a module: two workers compute with it, and know it again."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os
import pyarrow as pa
import lakehouse as lh
import helpers

os.environ["DRIVER"] = str(os.getpid())
with open("starts.txt", "a") as file:
    file.write(f"{os.getpid()}\\n")
"""
FUNCTION = """
OFFSET = 1

def shifted(x):
    return helpers.times(x) + OFFSET

@lh.udf(pa.int64())
def f(x: int) -> int:
    assert os.getpid() != int(os.environ["DRIVER"])
    return shifted(x)
"""
CLASS = """
@lh.udf({"low": pa.int64(), "high": pa.int64()}, batch=True, batch_size=100)
class Spread:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: list[int]) -> tuple[list[int], list[int]]:
        assert os.getpid() != int(os.environ["DRIVER"])
        return [shifted(n) - self.by for n in x], [n + self.by for n in x]
"""
RUN = """
table = lh.connect("lake").create_table("t", data=pa.table({"x": range(500)}))
table.add_columns({"f": f, "spread": Spread(by=2)})
given = {"f": f, "low": Spread(by=2)}
print(table.backfill(["f", "low"], udf=given, num_workers=2, progress=False).num_filled)
rows = table.to_arrow(["f", "low", "high"]).to_pylist()
assert rows == [{"f": 3 * x + 1, "low": 3 * x - 1, "high": x + 2} for x in range(500)]
"""
AGAIN = """
table = lh.connect("lake").open_table("t")
table.add_columns({"f": f, "spread": Spread(by=2)})
print(table.features()["state"].to_pylist())
print("code hash", f.code_hash)
"""
FRESH = "['fresh', 'fresh', 'fresh']"


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "helpers.py").write_text("def times(x):\n    return 3 * x\n")
    return tmp_path


def indented(code):
    return "".join(f"    {line}\n" for line in code.splitlines())


def test_a_function_of_a_script_with_a_main_guard(folder):
    code = PRELUDE + FUNCTION + CLASS
    (folder / "script.py").write_text(f'{code}if __name__ == "__main__":\n{indented(RUN + AGAIN)}')
    assert FRESH in run(folder, "script.py")
    assert len(Path(folder, "starts.txt").read_text().split()) == 1  # no worker runs the script


NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient
cells = [nbformat.v4.new_code_cell(source) for source in json.loads(sys.argv[1])]
book = NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=200, kernel_name="python3").execute()
for cell in book.cells:
    for output in cell.outputs:
        print(output.get("text", ""), end="")
"""


def test_a_function_of_a_notebook_is_the_same_as_in_a_script(folder):
    changed = FUNCTION.replace("OFFSET = 1", "OFFSET = 2")
    tried = "try:\n    table.backfill('f', udf=f, num_workers=2)\nexcept lh.errors.SchemaError as e:\n    print(e)\n"
    cells = [PRELUDE + FUNCTION, CLASS, RUN, AGAIN, changed, tried]
    out = run(folder, "-W", "ignore", "-c", NOTEBOOK, json.dumps(cells))
    assert FRESH in out
    assert len(Path(folder, "starts.txt").read_text().split()) == 1
    assert "this one differs" in out.splitlines()[-1]
    (folder / "script.py").write_text(PRELUDE + FUNCTION + 'print("code hash", f.code_hash)\n')
    assert run(folder, "script.py").strip() in out.splitlines()


def test_a_function_of_a_module_is_imported_by_whoever_fills_next(folder):
    imports = "import os\nimport pyarrow as pa\nimport lakehouse as lh\nimport helpers\n"
    (folder / "features.py").write_text(imports + FUNCTION + CLASS)
    (folder / "script.py").write_text(PRELUDE + "from features import Spread, f\n" + RUN + AGAIN)
    assert FRESH in run(folder, "script.py")
    next_day = """
    import os
    import lakehouse as lh

    os.environ["DRIVER"] = "0"
    table = lh.connect("lake").open_table("t")
    table.add([{"x": 500}], progress=False)
    table.backfill(progress=False)
    print(table.to_arrow(["f", "low"], where="x = 500").to_pylist())
    """
    (folder / "other.py").write_text(textwrap.dedent(next_day))
    assert run(folder, "other.py") == "[{'f': 1501, 'low': 1499}]\n"
