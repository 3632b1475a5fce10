"""What must hold of a lake that files were added to, and how its process is killed on the way."""

import hashlib
import random
import re
from pathlib import Path

import lakehouse as lh
from tests.killing import run_and_kill

ROOT = Path(__file__).parents[2]
MEDIA = {"images": "image", "videos": "video", "texts": "text"}

# What the reason must say, whatever the kind of file.
REASONS = {
    "zero_byte": "the file is empty",
    "truncated": "truncated|cut off|does not decode|not video",
    "wrong_extension": "not an image|not video",
    "bomb": "3,600,000,000 pixels, the limit is",
    "corrupted_header": "broken .* header|does not decode|not an image|not video",
    "dangling_symlink": "the link leads to .*, which is not there",
    "folder_with_the_name_of_a_file": "a folder, not a file",
    "unreadable": "symbolic links",
}

# A reader thread stops where it opens the file to be killed at, so the others are wherever they are: reading, writing, noting.
_ADDING = """
sys.path.insert(0, {root!r})
from lakehouse import commit, ingest
from lakehouse.sources import files
from tests.soak.ingesting import add

{settings}
sys.addaudithook(lambda event, args: moment(str(args[0])) if event == "open" else None)
before(ingest.Journal, "seal", "sealed")
before(commit, "has_landed", "committed")
before(ingest.Journal, "discard", "done")
add({lake!r}, {folder!r}, {table!r})
"""


def random_files(content, num_kills, seed):
    """Return by table the files to be killed at, in the order of reading: each byte is as likely, each table has one."""
    rng = random.Random(seed)
    chosen = {(table, *rng.choices(list(each.sizes), list(each.sizes.values()))) for table, each in content.items()}
    places = [(table, path) for table, each in content.items() for path in each.sizes]
    weights = [content[table].sizes[path] for table, path in places]
    while len(chosen) < num_kills:
        chosen.update(rng.choices(places, weights))
    return {table: sorted(path for each, path in chosen if each == table) for table in content}


def add_and_kill(lake, folder, table, at, scratch, settings=""):
    """Add the files of a table in a process that is killed at a file or at a named moment of the commit.

    `settings` is code that runs before, with `ingest` and `files` to hand.
    """
    values = {"lake": str(lake), "folder": str(folder), "table": table, "settings": settings}
    run_and_kill(_ADDING.format(root=str(ROOT), **values), at, scratch)


def check_rows(table, content, column):
    """Every good file is one row, with its bytes; nothing else is."""
    stored = []
    for batch in table.to_batches(["source_uri", "content_sha256", column]):
        for uri, sha256, data in zip(*(batch.column(name).to_pylist() for name in batch.schema.names), strict=True):
            assert hashlib.sha256(data if isinstance(data, bytes) else data.encode()).hexdigest() == sha256
            stored.append((uri, sha256))
    assert sorted(stored) == sorted(content.good.items())


def check_errors(table, content):
    """Every broken file is an entry, once, with its reason; no good one is."""
    told = table.errors().select(["key", "message"]).to_pylist()
    assert sorted(row["key"] for row in told) == sorted(content.broken)
    for row in told:
        assert re.search(REASONS[content.broken[row["key"]]], row["message"]), (content.broken[row["key"]], row)


def check(lake, content):
    """All of it, for all tables."""
    opened = lh.connect(lake)
    for table, column in MEDIA.items():
        check_rows(opened.open_table(table), content[table], column)
        check_errors(opened.open_table(table), content[table])


def unnamed_nbytes(lake, table):
    """Return the bytes of data files and blobs that the newest version does not name: what kills left behind."""
    dataset = lh.connect(lake).open_table(table).snapshot().dataset
    named = {file.path.removesuffix(".lance") for f in dataset.get_fragments() for file in f.data_files()}
    files = (path for path in (Path(dataset.uri) / "data").rglob("*") if path.is_file())
    root = Path(dataset.uri) / "data"
    return sum(
        path.stat().st_size for path in files if path.relative_to(root).parts[0].removesuffix(".lance") not in named
    )
