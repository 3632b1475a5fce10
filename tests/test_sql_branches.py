"""Branches that others made, read as tables: in Python, in SQL, in other processes."""

import multiprocessing
import pickle

import pyarrow as pa
import pytest

from lakehouse import layout
from lakehouse._lance import lance
from lakehouse.errors import InvalidArgumentError, QueryError, ReadOnlyError, TableNotFoundError, VersionNotFoundError
from tests.seeded import pictures


@pytest.fixture
def branched(lake, pets):
    """Give `pets` a branch with a row more and one less; main goes on to the same version number."""
    main = lance.dataset(pets.uri)
    branch = main.create_branch("exp")
    branch.delete("width = 24 AND split = 'val'")
    branch.tags.create("on-exp", branch.version)
    main.tags.create("on-main", main.version)
    pets.add(pictures(3, seed=5), progress=False)
    return lake


def test_a_branch_reads_as_a_table_of_its_own(branched):
    main, exp = branched.open_table("pets"), branched.open_table("pets", branch="exp")
    assert (exp.name, exp.snapshot().branch, main.snapshot().branch) == ("pets@exp", "exp", None)
    assert len(exp) == lance.dataset(exp.uri).count_rows() != len(main)
    assert "pets@exp" in repr(exp)
    key = exp.to_arrow(columns=["id"])["id"][0].as_py()
    assert exp[key]["image"].read() == main[key]["image"].read()
    assert exp.get([key]).equals(exp.take([0]))
    assert exp.rows([key])[0]["width"] == 24
    assert exp.tags() == {"on-exp": exp.version}
    assert main.tags() == {"on-main": main.version - 1}
    assert [row["version"] for row in exp.history().to_pylist()] == [exp.version, exp.version - 1]
    assert exp.info().num_rows == len(exp)
    assert exp.features().num_rows == 0


def test_a_branch_goes_by_one_name_everywhere(branched):
    exp = branched.open_table("pets", branch="exp")
    assert branched.open_table("pets@exp").to_arrow(columns=["id"]) == exp.to_arrow(columns=["id"])
    assert branched.open_table(exp.name).uri == exp.uri
    assert branched.open_table("pets", branch="main").uri == branched.open_table("pets").uri
    assert pickle.loads(pickle.dumps(exp)).to_arrow(columns=["id"]) == exp.to_arrow(columns=["id"])
    assert branched.table_names() == ["pets"]


def test_an_unpinned_handle_of_a_branch_follows_the_branch_and_not_main(branched):
    exp = branched.open_table("pets", branch="exp")
    pinned = branched.open_table("pets", exp.version, branch="exp")
    rows, version = len(exp), exp.version
    branched.open_table("pets").delete("true")
    assert (len(exp), exp.version) == (rows, version)
    lance.dataset(exp.uri).delete("split = 'train'")
    assert (exp.version, pinned.version) == (version + 1, version)
    assert len(exp) < len(pinned) == rows


def test_every_write_to_a_branch_is_refused_and_says_how(branched):
    exp = branched.open_table("pets", branch="exp")
    writes = [
        lambda: exp.add([{"id": "x"}]),
        lambda: exp.delete("true"),
        lambda: exp.update(values={"width": 1}),
        lambda: exp.merge_insert("id"),
        lambda: exp.add_columns({"area": "width * height"}),
        lambda: exp.drop_columns(["label"]),
        lambda: exp.backfill(),
        lambda: exp.create_index("id"),
        lambda: exp.compact(),
    ]
    for write in writes:
        with pytest.raises(ReadOnlyError, match="'pets@exp' is a branch.*main line.*pylance"):
            write()
    assert exp.version == lance.dataset(exp.uri).version
    with pytest.raises(InvalidArgumentError, match="cannot be a table name"):
        branched.create_table("pets@new", data=[{"a": 1}])
    with pytest.raises(TableNotFoundError):
        branched.drop_table("pets@exp")


def test_sql_names_branches_with_versions_and_tags(branched):
    exp = branched.open_table("pets", branch="exp")
    rows = {"pets": 23, '"pets@exp"': len(exp), '"pets@main"': 23, '"PETS@exp"': len(exp)}
    for name, expected in rows.items():
        assert branched.sql(f"SELECT count(*) FROM {name}").fetchall() == [(expected,)]
    result = branched.sql(f"""
        SELECT (SELECT count(*) FROM "pets@exp"), (SELECT count(*) FROM "pets@exp" p AT (VERSION => {exp.version - 1})),
               (SELECT count(*) FROM "pets@exp" AT (VERSION => 'on-exp')),
               (SELECT count(*) FROM pets AT (VERSION => 'on-main'))""")
    assert result.fetchall() == [(len(exp), 20, len(exp), 20)]
    assert result.versions["pets@exp"] == exp.version
    assert result.versions["pets@exp AT (VERSION => 'on-exp')"] == exp.version
    gone = branched.sql('SELECT id FROM pets AT (VERSION => 2) ANTI JOIN "pets@exp" USING (id)').fetchall()
    assert len(gone) == 20 - len(exp)
    assert f"pets@exp: version {exp.version}" in branched.sql('FROM "pets@exp"').explain()
    with pytest.raises(QueryError, match='in double quotes, as in FROM "pets@exp"'):
        branched.sql("FROM pets@exp")


def test_media_and_searches_come_from_the_branch(branched):
    exp = branched.open_table("pets", branch="exp")
    kept = branched.sql('SELECT id, image, image_width(image) AS w FROM "pets@exp" ORDER BY id LIMIT 3')
    assert kept["image"].to_pylist() == exp.get(kept["id"].to_pylist(), columns=["image"])["image"].to_pylist()
    assert kept["w"].to_pylist() == [24, 24, 24]
    assert [row["id"] for row in exp.rows(kept["_rowid"])] == kept["id"].to_pylist()
    hits = branched.sql("""SELECT id FROM lance_fts('pets@exp', 'caption', 'picture', k := 100)""").fetchall()
    assert len(hits) == len(exp)


def test_what_describes_tables_knows_branches_by_name_and_lists_the_main_line(branched):
    described = branched.sql('DESCRIBE "pets@exp"').fetchall()
    assert described == branched.sql("DESCRIBE pets").fetchall()
    assert branched.sql("SHOW TABLES").fetchall() == [("pets",)]
    assert branched.sql("SELECT table_name FROM information_schema.tables").fetchall() == [("pets",)]
    assert branched.sql('SUMMARIZE "pets@exp"').arrow().num_rows == len(described)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"branch": "epx"}, "no branch 'epx' of table 'pets'; it has exp; did you mean 'exp'"),
        ({"branch": "on-main"}, r"'on-main' is a tag: lake.open_table\('pets', 'on-main'\)"),
        ({"version": "exp"}, r"'exp' is a branch: lake.open_table\('pets', branch='exp'\), in SQL \"pets@exp\""),
        ({"version": "on-exp"}, r"is on branch 'exp'.*open_table\('pets', 'on-exp', branch='exp'\)"),
        ({"version": "on-main", "branch": "exp"}, "is on the main line, not on 'pets@exp'"),
        ({"version": 1, "branch": "exp"}, "no version 1 of table 'pets@exp'.*the branch begins at version 2"),
        ({"version": 99, "branch": "exp"}, "no version 99 of table 'pets@exp'; the newest is 3"),
        ({"version": "nope", "branch": "exp"}, "no tag 'nope' on table 'pets@exp'; it has on-exp"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(branched, how, words):
    with pytest.raises(VersionNotFoundError, match=words):
        branched.open_table("pets", **how)


@pytest.mark.parametrize("branch", ["../../secret", "..", "a b", "a//b", "x@y", "a\\b", "/etc", "é", ""])
def test_a_branch_leads_out_of_no_lake(branched, tmp_path, branch):
    secret = tmp_path / "secret"
    lance.write_dataset(pa.table({"a": [1]}), secret)
    for ask in (lambda: branched.open_table("pets", branch=branch), lambda: branched.sql(f'FROM "pets@{branch}"')):
        with pytest.raises((InvalidArgumentError, VersionNotFoundError, TableNotFoundError)):
            ask()


def test_a_branch_of_a_branch_and_one_with_a_slash_are_opened(branched):
    lance.dataset(branched.open_table("pets", branch="exp").uri).create_branch("team/exp-2")
    assert len(branched.open_table("pets", branch="team/exp-2")) == len(branched.open_table("pets", branch="exp"))
    assert branched.sql('SELECT count(*) FROM "pets@team/exp-2"').fetchall()[0][0] == len(
        branched.open_table("pets", branch="exp")
    )


def test_tags_of_two_lines_do_not_mix(branched):
    main, exp = branched.open_table("pets"), branched.open_table("pets", branch="exp")
    exp.tag("good")
    assert "good" not in main.tags()
    assert exp.tags()["good"] == exp.version
    with pytest.raises(Exception, match="good"):
        main.tag("good")
    exp.untag("good")
    assert "good" not in exp.tags()


def test_a_loader_reads_a_branch_and_its_workers_too(branched):
    exp = branched.open_table("pets", branch="exp")
    batches = list(exp.loader(columns=["id"], batch_size=4, drop_last=False, shuffle=False))
    assert sorted(key for batch in batches for key in batch["id"]) == sorted(
        exp.to_arrow(columns=["id"])["id"].to_pylist()
    )


def test_another_process_opens_the_branch(branched):
    exp = branched.open_table("pets", branch="exp")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_num_rows, (exp,)) == len(exp)


def _num_rows(table):
    return len(table)


def test_dropping_a_table_leaves_nothing_of_its_branches(branched):
    exp = branched.open_table("pets", branch="exp")
    for _ in exp.loader(columns=["id"], batch_size=4):
        break
    exp.features()
    branched.drop_table("pets")
    side = layout.side(branched._location)
    assert [f"{room}/{entry}" for room in side.listdir() for entry in side.listdir(room) if "pets" in entry] == []
