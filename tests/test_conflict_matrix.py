"""Who may write beside whom: what comes of two operations planned at the same version, as tables.

The first table is Lance's, on which the library stands. Whatever an upgrade changes there fails by the names of the two
operations, and is to be judged before the range of versions in pyproject.toml is widened.
"""

import shutil

import pytest

from lakehouse._lance import lance
from tests import lance_operations, library_operations

# Down: what is committed second, planned before the first had landed. Across: what landed first, by its letter.
#   .  both are there
#   -  it landed, and of the first nothing is to be seen any more
#   !  it landed, and the table cannot be read any more: the index is on a column that is not there
#   R  to be tried again from the newest version, as a CommitConflictError; r as a plain OSError, of which the text tells
#   X  the ground is gone: plan again or stop; x the same as a plain OSError
#   e  refused in other words: the column is not there any more, the tag is there already
LANCE = """
                      a b c d e f g h i j k l m n o p q r s t u
a fill f              R . . . X R . R R R X . . R . R . . . X X
b fill g              . R . . X R . R R R . . . R . . . . . X X
c append              . . . . . . . . . . e e e . . . . . . X X
d delete              r r . r r . r . r r . . . r . . . . . x x
e delete fragment     r r . r r r r r r r . . . r . . . . . x x
f update              r r . . r r r . r r . . . r . . . . . x x
g update in place     R R . R R R R R R R . . . R . . . . . X X
h upsert              r r . . r . r r r r . . . r . . . . . x x
i add null column     R R R R R R R R R R X X X R . . R . . X X
j add computed column R R R R R R R R R R X X X R . . R . . X X
k drop f              - . . . . . . . r r r r r . . - - . . x x
l drop other          . . . . . . . . r r r r r . . . - . . x x
m rename f            . . . . . . . . r r r r r . . . - . . x x
n compact             r r . r r r r r r r . . . r r r . . . x x
o index x             . . . . . . . . . . . . . R R . . . . X X
p index f             R . . . . . . . . . ! . . R . R . . . X X
q field metadata      . . . . . . . . r r x . . . . . x . . x x
r config              . . . . . . . . . . . . . . . . . x . . .
s tag                 . . . . . . . . . . . . . . . . . . e . .
t restore             - - - - - - - - - - - - - - - - X - . . -
u overwrite           - - - . - . . - - - - - - . - - - . . . R
"""


# Down: the operation that is stopped, and where; across: what another handle does meanwhile, by its letter. Lance stages
# and commits in one what it builds itself, so there is no moment between.
#   .  both are there
#   n  both are there, and the stopped one computed n rows a second time
#   B  the stopped one gives up: BackfillError; N ColumnNotFoundError, S SchemaError, W ConflictError
#   w  the other one is refused, with the same letters; the stopped one goes on
LIBRARY = """
                                     a b c d e f g h i j k l m n o p q r s t u v w
a backfill f         planned         w . . 1 2 . 2 . . . B . . B . w . . . . . . 2
                     staged          w . . 1 2 . 2 . . . B . . B . w . . . . . . 2
                     before commit   w . . 1 2 . 2 . . . B . . B . w . . . . . . 2
                     after commit    w . . 1 2 . 2 . . . B . . B . w . . . . . . .
b backfill g         planned         . w . . . . . . . . . . . . . . . . . . . . .
                     staged          . w . . . . . . . . . . . . . . . . . . . . .
                     before commit   . w . . . . . . . . . . . . . . . . . . . . .
                     after commit    . w . . . . . . . . . . . . . . . . . . . . .
c backfill d, of f   planned         . . w . . . . . . . B . . . . w . . . . . . .
                     staged          . . w . . . . . . . B . . . . w . . . . . . .
                     before commit   . . w . . . . . . . B . . . . w . . . . . . .
                     after commit    . . w . . . . . . . B . . . . w . . . . . . .
d add                planned         . . . . . . . . . . . . S . . . . . . . . . .
                     staged          . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
e update x           planned         . . . . . . . . . . . . N . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
f update other       planned         . . . . . . . . . N . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
g upsert             planned         . . . . . . . . . N . . N . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
h delete             planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
i add column         planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
j drop other         planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . n s . . n . . . . . . . . . . . . .
k drop f and d       planned         . . . . . . . . . . . N . . . . . . . . . . .
                     before commit   . . . . . . . . . . . N . . . . . . . . . . .
                     after commit    n . n . . . . . . . n n . n n n . . . . n . .
l rename f           planned         . . . . . . . . . . N . . . . . . . . . . . .
                     before commit   . . . . . . . . . . N . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . n . . . . . . . . . . .
m rename x           planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . n s . . . . . . . . .
n alter f            planned         . . . . . . . . . . N . S . . . . . . . . . .
                     before commit   . . . . . . . . . . N . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
o accept f           planned         . . . . . . . . . . N . . . S S . . . . . . .
                     before commit   . . . . . . . . . . N . . . S S . . . . . . .
                     after commit    . . . . . . . . . . . . . . s . . . . . . . .
p roll back f        planned         w . w . . . . . . . N . . . . w . . . . . . .
                     before commit   w . w . . . . . . . N . . . . w . . . . . . .
                     after commit    w . w . . . . . . . W . . W W w . . . . . . .
q import a column    planned         . . . . . . . . . . . . . . . . . . . . . . .
                     staged          . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
r compact            planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
s compact by Lance
t index x            planned         . . . . . . . . . . . . N . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
u index f            planned         . . . . . . . . . . N N . . . . . . . . . . .
                     before commit   . . . . . . . . . . N . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
v optimize indices   planned         . . . . . . . . . . . . . . . . . . . . . . .
                     before commit   . . . . . . . . . . . . . . . . . . . . . . .
                     after commit    . . . . . . . . . . . . . . . . . . . . . . .
w update x by LanceDB
"""
# What the suite tries of it; `make soak` tries all.
IN_THE_SUITE = ("backfill f", "upsert", "delete", "drop f and d", "compact by Lance")


def lance_cells(table):
    """Return {(across, down): sign}."""
    header, *lines = table.strip("\n").splitlines()
    names = {line[0]: line[2 : header.index(" a ")].strip() for line in lines}
    across = [names[letter] for letter in header.split()]
    return {
        (first, names[line[0]]): sign
        for line in lines
        for first, sign in zip(across, line[header.index(" a ") :].split(), strict=True)
    }


def library_cells(table):
    """Return {(stopped, phase, other): sign}."""
    header, *lines = table.strip("\n").splitlines()
    signs_from = header.index(" a ")
    names = {line[0]: line[2:21].strip() for line in lines if line[0] != " "}
    across = [names[letter] for letter in header.split()]
    found, stopped = {}, ""
    for line in lines:
        stopped = names.get(line[0], stopped)
        signs = line[signs_from:].split()
        found |= {(stopped, line[21:signs_from].strip(), other): sign for other, sign in zip(across, signs)}
    return found


@pytest.fixture(scope="module")
def landed(tmp_path_factory):
    """Return a function that makes a table where an operation has landed since all were planned."""
    folder = tmp_path_factory.mktemp("landed")
    lance_operations.make(str(folder / "nothing"))

    def landed(first):
        if not (folder / first).exists():
            shutil.copytree(folder / "nothing", folder / first)
            lance_operations.OPERATIONS[first][0](lance.dataset(str(folder / first)))
        return folder / first

    return landed


def test_the_table_names_every_pair_of_operations():
    names = list(lance_operations.OPERATIONS)
    assert list(lance_cells(LANCE)) == [(first, second) for second in names for first in names]


@pytest.mark.parametrize(
    ("first", "second", "sign"),
    [pytest.param(*pair, sign, id="-then-".join(pair)) for pair, sign in lance_cells(LANCE).items()],
)
def test_lance_commits_or_refuses_the_second_operation_as_before(tmp_path, landed, first, second, sign):
    shutil.copytree(landed(first), tmp_path / "t")
    assert lance_operations.outcome(str(tmp_path / "t"), first, second) == sign


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the lake that all cells of the second table begin with."""
    folder = tmp_path_factory.mktemp("lake")
    library_operations.make(folder)
    return folder


def test_the_table_names_every_pair_of_operations_at_every_phase():
    names = list(library_operations.OPERATIONS)
    stopped = [name for name in names if name not in ("update x by LanceDB", "compact by Lance")]  # nobody stops these
    places = [(name, phase) for name in stopped for phase in library_operations.moments(name)]
    assert list(library_cells(LIBRARY)) == [(*place, other) for place in places for other in names]


CELLS = [
    pytest.param(*cell, sign, id=", ".join(cell))
    for cell, sign in library_cells(LIBRARY).items()
    if cell[0] == "backfill f" or (cell[1] == library_operations.BEFORE and cell[2] in IN_THE_SUITE)
]


@pytest.mark.parametrize(("stopped", "phase", "other", "sign"), CELLS)
def test_whoever_comes_in_between_nothing_is_lost_or_wrong(tmp_path, base, stopped, phase, other, sign):
    shutil.copytree(base, tmp_path / "lake")
    assert library_operations.outcome(tmp_path / "lake", stopped, phase, other) == sign
