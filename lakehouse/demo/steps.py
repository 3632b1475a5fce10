"""The steps of the demo: each does one thing with the library, on its own, and says what it did in numbers."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import lakehouse as lh
from lakehouse.demo.features import brightness
from lakehouse.demo.files import make_files
from lakehouse.demo.step import Step, nbytes_changed, nbytes_told, pictures
from lakehouse.demo.team import changed, from_outside, rolled_back, together, updated
from lakehouse.display import count, format_nbytes

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["STEPS"]

_SIDE_PX = 224
_LOOKUPS = 8


def _lake(folder: Path) -> Any:
    return lh.connect(folder / "lake")


def files(folder: Path) -> Step:
    """Make the input."""
    make_files(folder / "files")
    found = [path for path in (folder / "files").rglob("*") if path.is_file()]
    kinds = Counter(path.suffix for path in found)
    nbytes = sum(path.stat().st_size for path in found)
    counted = ", ".join((count(kinds[".jpg"], "picture"), count(kinds[".mp4"], "video"), count(kinds[".txt"], "text")))
    told = [f"{counted} in {folder / 'files'}: {format_nbytes(nbytes)}; one picture is cut in half on purpose"]
    if find_spec("skimage") is None:
        told.append("the pictures are drawn; photographs come with: pip install 'lance-lakehouse[examples]'")
    if find_spec("av") is None:
        told.append("no video without PyAV: pip install 'lance-lakehouse[video]'")
    return Step("Files, as they lie around", "", tuple(told), {"nbytes": nbytes, "files": len(found)})


def tables(folder: Path) -> Step:
    """Store the input in tables."""
    lake = _lake(folder)
    start = time.perf_counter()
    told = []
    figures: dict[str, Any] = {}
    for name, (schema, source) in _sources(folder / "files").items():
        result = lake.create_table(name, schema=schema).add(source, on_bad_rows="record", progress=False)
        figures[name] = result.num_rows
        told.append(f"{name}: {count(result.num_rows, 'row')}, {format_nbytes(result.nbytes_written)} written")
    seconds = time.perf_counter() - start
    errors = lake.open_table("pictures").errors().to_pylist()
    told += [f"not stored: {_base(error['key'])}, {error['message']}" for error in errors]
    code = (
        'lake = lh.connect("lake")\n'
        't = lake.create_table("pictures", schema="images")\n'
        't.add(lh.read_images("files/pictures", label_from="folder"), on_bad_rows="record")'
    )
    figures |= {"failed": len(errors), "seconds": seconds}
    return Step(f"Tables of them, in {seconds:.1f} s", code, tuple(told), figures)


def _sources(files: Path) -> dict[str, tuple[str, Any]]:
    """Return the schema and the data of each table; there is no video where PyAV is missing."""
    sources: dict[str, tuple[str, Any]] = {
        "pictures": ("images", lh.read_images(files / "pictures", label_from="folder")),
        "texts": ("documents", lh.read_texts(files / "texts")),
    }
    if (files / "videos").exists():
        sources["videos"] = ("videos", lh.read_videos(files / "videos"))
    return sources


def feature(folder: Path) -> Step:
    """Add a column that is computed from the pictures."""
    table = pictures(folder)
    before = table.info()
    start = time.perf_counter()
    table.add_columns({"brightness": brightness})
    result = table.backfill("brightness", progress=False)
    seconds = time.perf_counter() - start
    figures = nbytes_changed(before, table.info())
    return Step(
        "A feature column, computed from the pictures",
        't.add_columns({"brightness": brightness})\nt.backfill("brightness")',
        (f"{count(result.num_filled, 'row')} in {seconds:.1f} s: {nbytes_told(figures)}",),
        {**figures, "seconds": seconds},
    )


def sql(folder: Path) -> Step:
    """Ask with SQL."""
    query = "SELECT label, count(*) AS n, avg(brightness) AS mean FROM pictures GROUP BY 1 ORDER BY 3 DESC LIMIT 4"
    start = time.perf_counter()
    rows = _lake(folder).sql(query).fetchall()
    seconds = time.perf_counter() - start
    told = [f"{'label':<12} {'n':>3}  {'mean':>4}"] + [f"{label:<12} {n:>3}  {mean:.2f}" for label, n, mean in rows]
    return Step("SQL, features included", f'lake.sql("{query}")', tuple(told), {"seconds": seconds, "rows": len(rows)})


def one_row(folder: Path) -> Step:
    """Find a row by its key and save its picture."""
    table = pictures(folder)
    key = _whole(folder, "cat")
    others = table.sample(_LOOKUPS, seed=0, columns=["id"])["id"].to_pylist()
    seconds = []
    for each in (*others, key):
        start = time.perf_counter()
        row = table[each]
        data = row["image"].read()
        seconds.append(time.perf_counter() - start)
    (folder / "sample.jpg").write_bytes(data)
    info = row["image"].info
    shape = f"{info.width_px} x {info.height_px} px, {format_nbytes(len(data))}"
    median = statistics.median(seconds)
    return Step(
        "One row by its key",
        't[key]["image"].read()',
        (f"{row['label']}, {shape}, saved as sample.jpg; {median * 1e3:.1f} ms (median of {len(seconds)} rows)",),
        {"seconds": median, "nbytes": len(data)},
    )


def _whole(folder: Path, label: str) -> str:
    """Return the key of a subject's whole picture, of another subject's if there is no such one."""
    query = "SELECT id FROM pictures WHERE source_uri LIKE '%/whole.jpg' ORDER BY label = $label DESC, label LIMIT 1"
    key: str = _lake(folder).sql(query, {"label": label}).fetchall()[0][0]
    return key


def similar(folder: Path, k: int = 6) -> Step:
    """Find the pictures nearest in colour."""
    table = pictures(folder)
    row = table.get([_whole(folder, "cat")], columns=["palette", "label"]).to_pylist()[0]
    start = time.perf_counter()
    hits = table.search(row["palette"], column="palette", k=k, columns=["label", "source_uri"])
    seconds = time.perf_counter() - start
    labels = Counter(hits["label"].to_pylist())
    shown = ", ".join(f"{n} {label}" for label, n in labels.most_common())
    return Step(
        "Pictures like it",
        f't.search(row["palette"], column="palette", k={k})',
        (f"nearest to {row['label']} in colour: {shown} ({seconds * 1e3:.1f} ms, exact)",),
        {"seconds": seconds, "labels": dict(labels)},
    )


def batch(folder: Path) -> Step:
    """Take one batch as a training loop does."""
    loader = pictures(folder).loader(columns=["image", "label"], batch_size=14, seed=0, transform=_corner)
    first = next(iter(loader))
    shapes = {name: _shape(value) for name, value in first.items()}
    told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    kind = "PyTorch" if find_spec("torch") else "NumPy, for PyTorch is not installed"
    return Step(
        "A batch for training",
        'next(iter(t.loader(columns=["image", "label"], batch_size=14, shuffle=True, transform=crop)))',
        (f"{told}: the first of {len(loader)}, shuffled ({kind})",),
        {"shapes": shapes},
    )


def _corner(row: Any) -> dict[str, Any]:
    """Cut pictures to one size, for those of a batch are stacked."""
    return {**row, "image": row["image"][:, :_SIDE_PX, :_SIDE_PX]}


def _shape(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return f"{len(value)} of {type(value[0]).__name__}"


def _base(uri: str) -> str:
    return "/".join(uri.rsplit("/", 2)[-2:])


STEPS = (
    files,
    tables,
    feature,
    together,
    changed,
    updated,
    from_outside,
    rolled_back,
    sql,
    one_row,
    similar,
    batch,
)
