"""The operations of Lance that the library stands on, on one small table, and how to tell that each is there.

An operation takes a dataset opened at the version it was planned at, writes its files and commits from there; Lance
rebases it over what landed meanwhile, or refuses.
"""

import uuid

import pyarrow as pa
from lance.commit import CommitConflictError

from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify

ROWS, FRAGMENTS = 20, 2
PLANNED = 4  # the version all operations are planned at
NEW = 1000  # ids from here on are appended


def make(uri):
    """Make the table: two fragments, an indexed column, three that nobody filled."""
    for start in range(0, ROWS * FRAGMENTS, ROWS):
        ids = list(range(start, start + ROWS))
        rows = pa.table({"id": ids, "x": ids, "other": ids, "indexed": ids})
        dataset = lance.write_dataset(rows, uri, mode="append" if start else "create", enable_stable_row_ids=True)
    dataset.add_columns(pa.schema([pa.field(name, pa.int64()) for name in ("f", "g", "spare")]))
    dataset.create_scalar_index("indexed", "BTREE")
    assert dataset.version == PLANNED


def _fill(column, value):
    """Replace one column of all fragments by files made elsewhere."""

    def fill(dataset):
        groups = []
        for fragment in dataset.get_fragments():
            ids = dataset.scanner(columns=["id"], fragments=[fragment]).to_table()["id"]
            name = f"{uuid.uuid4().hex}.lance"
            values = pa.table({column: pa.array([value(n) for n in ids.to_pylist()], pa.int64())})
            with lance.file.LanceFileWriter(
                f"{dataset.uri}/data/{name}", schema=values.schema, version=dataset.data_storage_version
            ) as writer:
                writer.write_batch(values)
            file = lance.fragment.DataFile.create(dataset, name)
            groups.append(lance.LanceOperation.DataReplacementGroup(fragment.fragment_id, file))
        _commit(dataset, lance.LanceOperation.DataReplacement(groups))

    return fill


def _commit(dataset, operation):
    lance.LanceDataset.commit(dataset.uri, operation, read_version=dataset.version)


def _append(dataset):
    rows = pa.table({name: [NEW] for name in dataset.schema.names})
    fragments = lance.fragment.write_fragments(rows, dataset.uri, mode="append", enable_stable_row_ids=True)
    _commit(dataset, lance.LanceOperation.Append(fragments))


def _rewrite_column(dataset):
    """Change a column where the rows are."""
    fragment = dataset.get_fragments()[0]
    ids = dataset.scanner(columns=[], filter="id = 5", fragments=[fragment], with_row_id=True).to_table()["_rowid"]
    changed, fields = fragment.update_columns(pa.table({"_rowid": ids, "x": pa.array([-5], pa.int64())}))[:2]
    operation = lance.LanceOperation.Update(
        updated_fragments=[changed], fields_modified=fields, update_mode="rewrite_columns"
    )
    _commit(dataset, operation)


def _upsert(dataset):
    rows = pa.table({"id": [6, NEW + 1], "x": [-6, -6]})
    upsert = dataset.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
    upsert.use_index(False).conflict_retries(0).execute(rows)


def _overwrite(dataset):
    rows = pa.table({name: [-9] for name in dataset.schema.names})
    fragments = lance.fragment.write_fragments(rows, dataset.uri, schema=rows.schema, mode="overwrite")
    _commit(dataset, lance.LanceOperation.Overwrite(rows.schema, fragments))


def _value(column, key):
    """Tell whether the row `key`, if it is there, has this value."""
    return lambda rows, dataset: all(row[column] == -key for row in rows if row["id"] == key)


def _all(column, value):
    def holds(rows, dataset):
        name = f"{column}2" if f"{column}2" in dataset.schema.names else column  # after a rename
        old = [row for row in rows if row["id"] < NEW]
        return name in dataset.schema.names and all(row[name] == value(row["id"]) for row in old)

    return holds


def _has(predicate):
    return lambda rows, dataset: any(map(predicate, rows))


def _names(there=(), gone=()):
    return lambda rows, dataset: {*there} <= {*dataset.schema.names} and not {*gone} & {*dataset.schema.names}


# What is done; how to tell from the rows and the dataset that it is there.
OPERATIONS = {
    "fill f": (_fill("f", lambda n: 2 * n), _all("f", lambda n: 2 * n)),
    "fill g": (_fill("g", lambda n: 3 * n), _all("g", lambda n: 3 * n)),
    "append": (_append, _has(lambda row: row["id"] == NEW)),
    "delete": (
        lambda ds: ds.delete("id = 7", conflict_retries=0),
        lambda rows, _: all(row["id"] != 7 for row in rows),
    ),
    "delete fragment": (
        lambda ds: ds.delete(f"id < {ROWS}", conflict_retries=0),
        lambda rows, _: all(row["id"] >= ROWS for row in rows),
    ),
    "update": (lambda ds: ds.update({"x": "-4"}, where="id = 4", conflict_retries=0), _value("x", 4)),
    "update in place": (_rewrite_column, _value("x", 5)),
    "upsert": (_upsert, _has(lambda row: row["id"] == NEW + 1)),
    "add null column": (lambda ds: ds.add_columns(pa.schema([pa.field("new", pa.int64())])), _names({"new"})),
    "add computed column": (lambda ds: ds.add_columns({"computed": "id * 2"}), _all("computed", lambda n: 2 * n)),
    "drop f": (lambda ds: ds.drop_columns(["f"]), _names(gone={"f"})),
    "drop other": (lambda ds: ds.drop_columns(["other"]), _names(gone={"other"})),
    "rename f": (lambda ds: ds.alter_columns({"path": "f", "name": "f2"}), _names({"f2"}, {"f"})),
    "compact": (
        lambda ds: ds.optimize.compact_files(target_rows_per_fragment=1000),
        lambda _, ds: all(fragment.fragment_id >= FRAGMENTS for fragment in ds.get_fragments()),
    ),
    "index x": (
        lambda ds: ds.create_scalar_index("x", "BTREE", name="on x"),
        lambda _, ds: "on x" in {index.name for index in ds.describe_indices()},
    ),
    "index f": (
        lambda ds: ds.create_scalar_index("f", "BTREE", name="on f"),
        lambda _, ds: "on f" in {index.name for index in ds.describe_indices()},
    ),
    "field metadata": (
        lambda ds: ds.update_field_metadata({"f": {"made by": "f"}}),
        lambda _, ds: any((field.metadata or {}).get(b"made by") for field in ds.schema),
    ),
    "config": (lambda ds: ds.update_config({"who": "me"}), lambda _, ds: ds.config().get("who") == "me"),
    "tag": (lambda ds: ds.tags.create("then", ds.version), lambda _, ds: "then" in ds.tags.list()),
    "restore": (
        lambda ds: _commit(ds, lance.LanceOperation.Restore(PLANNED - 1)),
        lambda _, ds: not ds.describe_indices(),
    ),
    "overwrite": (_overwrite, _has(lambda row: row["id"] == -9)),
}

BOTH, UNDOES, BROKEN = ".", "-", "!"
SIGNS = {Outcome.RETRYABLE: "R", Outcome.INCOMPATIBLE: "X", Outcome.GONE: "G", Outcome.UNKNOWN: "E"}


def outcome(uri, first, second):
    """Carry out `second` as planned before `first` landed; return the sign of what came of it."""
    do, _ = OPERATIONS[second]
    try:
        do(lance.dataset(uri, version=PLANNED))
    except Exception as error:
        sign = SIGNS[classify(error)]
        return sign if isinstance(error, CommitConflictError) else sign.lower()
    now = lance.dataset(uri)
    now.validate()
    rows = now.to_table().to_pylist()
    try:
        assert now.count_rows("id > -100") == len(rows)
    except OSError:
        return BROKEN
    assert OPERATIONS[second][1](rows, now), "it was said to have landed"
    return BOTH if OPERATIONS[first][1](rows, now) else UNDOES
