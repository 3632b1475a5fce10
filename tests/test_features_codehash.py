"""The hash tells a change of what a function computes from a change of how it is written."""

import ast
import difflib
import heapq
import importlib
import inspect
import os
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.features.udfs.codehash import hash_code, hash_values

MODULE = """
import functools
import math
import numpy as np

SCALE = 3
TABLE = {"a": 1, "b": 2}
MATRIX = np.arange(4.0)
MEMO = {}
HANDLE = object()


class Config:
    SIZE = 8


def helper(x):
    return x * SCALE


def outer(x):
    return helper(x) + 1


@functools.lru_cache
def cached(x):
    return x + 1


def feature(x):
    return outer(x) + Config.SIZE
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a text as a module of its own, edited as asked."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions in one second look the same
    numbers = iter(range(1000))

    def load(*edits, text=MODULE, name=None):
        for old, new in edits:
            assert old in text
            text = text.replace(old, new)
        name = name or f"team_features_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return load


@pytest.mark.parametrize(
    "edit",
    [
        ("return outer(x) + Config.SIZE", "# the sum\n    return  outer( x )+(Config . SIZE)"),
        ("def feature(x):", 'def feature(x):\n    """Add."""'),
        ("def feature(x):", "def feature(x: int) -> float:"),
        ("def outer(x):", 'def outer(x):\n    "doc"'),
        ("SCALE = 3", "SCALE = 1 + 2"),
        ("def feature", "def another():\n    return 7\n\n\ndef feature"),
        ("import math", "import math, os"),
        ('TABLE = {"a": 1, "b": 2}', "TABLE = {}"),
    ],
)
def test_what_changes_no_result_changes_no_hash(load, edit):
    assert hash_code(load(edit).feature) == hash_code(load().feature)


@pytest.mark.parametrize("module", [heapq, difflib, textwrap])
def test_reformatting_whole_modules_changes_no_hash(load, module):
    with open(module.__file__) as file:
        text = file.read()
    ours, reformatted = load(text=text), load(text=ast.unparse(ast.parse(text)))
    compared = 0
    for name, value in vars(ours).items():
        if inspect.isfunction(value) and value.__module__ == ours.__name__:
            assert hash_code(value) == hash_code(getattr(reformatted, name)), name
            assert ":py" not in hash_code(value).digest
            compared += 1
    assert compared > 2


@pytest.mark.parametrize(
    "edit",
    [
        ("+ Config.SIZE", "- Config.SIZE"),
        ("helper(x) + 1", "helper(x) + 2"),
        ("x * SCALE", "x / SCALE"),
        ("SCALE = 3", "SCALE = 4"),
        ("SCALE = 3", "SCALE = 3.0"),
        ("SIZE = 8", "SIZE = 9"),
        ("def helper(x):", "def helper(x, y=1):"),
        ("return outer(x) +", "return math.sqrt(x) + outer(x) +"),
    ],
)
def test_what_changes_a_result_changes_the_hash(load, edit):
    assert hash_code(load(edit).feature).digest != hash_code(load().feature).digest


@pytest.mark.parametrize(
    ("body", "edit"),
    [
        ("return TABLE[x]", ('"b": 2', '"b": 3')),
        ("return MATRIX @ x", ("np.arange(4.0)", "np.arange(4)")),
        ("return cached(x)", ("return x + 1", "return x + 2")),
        ("return [helper(y) for y in x]", ("x * SCALE", "x + SCALE")),
        ("return (lambda y: helper(y))(x)", ("x * SCALE", "x + SCALE")),
        ("return max(x, key=helper)", ("x * SCALE", "x + SCALE")),
        ("return OPERATIONS['h'](x)\n\n\nOPERATIONS = {'h': helper}", ("x * SCALE", "x + SCALE")),
    ],
)
def test_everything_a_function_reaches_is_covered(load, body, edit):
    with_body = ("return outer(x) + Config.SIZE", body)
    before, after = hash_code(load(with_body).feature), hash_code(load(with_body, edit).feature)
    assert before.not_covered == ()
    assert before.digest != after.digest


def test_a_local_name_is_not_taken_for_a_global_of_the_same_name(load):
    local = ("return outer(x) + Config.SIZE", "helper = x\n    return helper")
    assert hash_code(load(local).feature) == hash_code(load(local, ("x * SCALE", "x + SCALE")).feature)


def test_memory_and_objects_of_unknown_state_are_named_as_not_covered(load):
    memo = ("return outer(x) + Config.SIZE", "MEMO[x] = HANDLE\n    return MEMO[x]")
    module = load(memo)
    before = hash_code(module.feature)
    module.feature(1)
    assert hash_code(module.feature) == before
    assert set(before.not_covered) == {"MEMO", "HANDLE"}


def test_a_constant_changed_while_the_process_runs_changes_the_hash(load):
    module = load()
    before = hash_code(module.feature)
    module.SCALE = 5
    assert hash_code(module.feature) != before


def test_helpers_in_another_module_of_the_project_are_followed_and_installed_packages_are_not(load):
    user = "import team_helpers\nimport json\n\n\ndef f(x):\n    return json.dumps(team_helpers.scaled(x))\n"
    hashes = []
    for factor in (2, 3, 2):
        load(text=f"def scaled(x):\n    return x * {factor}\n", name="team_helpers")
        hashes.append(hash_code(load(text=user).f))
    assert hashes[0] == hashes[2] != hashes[1]
    assert hashes[0].not_covered == ()
    assert ":" not in hashes[0].digest


def test_a_function_may_move_to_another_module_and_be_renamed(load):
    text = "def {name}(x):\n    return x + 1\n"
    assert hash_code(load(text=text.format(name="a")).a) == hash_code(load(text="K = 1\n\n" + text.format(name="b")).b)


def test_closures_defaults_and_partials_are_covered(load):
    module = load(
        text="""
        import functools
        def add(n):
            def f(x, y=n):
                return x + n + y
            return f
        def both(a, b):
            return a + b
        """
    )
    assert hash_code(module.add(1)) == hash_code(module.add(1)) != hash_code(module.add(2))
    assert hash_code(partial(module.both, 1)) != hash_code(partial(module.both, 2))


def test_decorators_and_what_they_wrap_are_covered(load):
    text = """
    import functools
    def twice(f):
        @functools.wraps(f)
        def inner(x):
            return f(f(x))
        return inner
    def bare(f):
        def inner(x):
            return f(x)
        return inner
    @twice
    def a(x):
        return x + 1
    @bare
    def b(x):
        return x + 1
    """
    module = load(text=text)
    assert hash_code(module.a) != hash_code(module.b)
    changed = load(text=text.replace("return x + 1", "return x + 2"))
    assert hash_code(module.a) != hash_code(changed.a)
    assert hash_code(module.b) != hash_code(changed.b)
    assert hash_code(load(text=text.replace("f(f(x))", "f(x)")).a) != hash_code(module.a)


def test_classes_are_covered_with_their_bases(load):
    text = """
    class Base:
        FACTOR = 2
        def scale(self, x):
            return x * self.FACTOR
    class Embed(Base):
        def __init__(self, model):
            self.model = model
        def __call__(self, x):
            return self.scale(x)
    """
    first = hash_code(load(text=text).Embed)
    assert hash_code(load(text=text.replace("def __call__", '"""doc"""\n\n        def __call__')).Embed) == first
    assert hash_code(load(text=text.replace("FACTOR = 2", "FACTOR = 3")).Embed) != first
    assert hash_code(load(text=text.replace("self.model = model", "self.model = None")).Embed) != first


def test_the_fields_of_dataclasses_are_covered_by_source_and_by_value(load):
    text = """
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class Options:
        size: int = 3
        mode: str = "fast"
    OPTIONS = Options()
    def f(x):
        return x * OPTIONS.size
    def g(x):
        return x * Options(size=x).size
    """
    module = load(text=text)
    by_value, by_source = load(text=text.replace("Options()", "Options(4)")), load(text=text.replace("= 3", "= 5"))
    assert hash_code(module.f) != hash_code(by_value.f) != hash_code(by_source.f)
    assert hash_code(module.g) == hash_code(by_value.g) != hash_code(by_source.g)
    assert all(":py" not in hash_code(function).digest for function in (module.f, module.g))


def test_a_file_edited_after_import_still_hashes_as_the_code_that_runs(load):
    module = load(name="edited")
    before = hash_code(module.feature)
    with open(module.__file__, "a") as file:
        file.write("\n\ndef feature(x):\n    return 0\n")
    assert hash_code(module.feature) == before


def test_source_that_is_no_longer_the_running_code_is_not_believed(load):
    module = load(("helper(x) + 1", "helper(x) + 71"), name="stale")
    with open(module.__file__, "w") as file:
        file.write(MODULE.replace("helper(x) + 1", "helper(x) + 72"))
    os.utime(module.__file__, (1, 1))
    stale = hash_code(module.outer)
    assert stale.digest.endswith(f":py{sys.version_info.major}.{sys.version_info.minor}")
    assert stale.digest != hash_code(load(("helper(x) + 1", "helper(x) + 72")).outer).digest
    module = load(("helper(x) + 1", "helper(x) + 73"), name="broken")
    with open(module.__file__, "w") as file:
        file.write("def (broken")
    assert ":py" in hash_code(module.outer).digest


def test_functions_without_source_and_lambdas_on_one_line_differ_by_what_they_do():
    made = {}
    exec("SCALE = 3\ndef helper(x):\n    return x * SCALE\ndef f(x):\n    return helper(x)", made)
    first = hash_code(made["f"])
    assert ":py" in first.digest
    made["SCALE"] = 4
    assert hash_code(made["f"]) != first
    plus, minus = (lambda x: x + 1), (lambda x: x - 1)
    assert hash_code(plus) != hash_code(minus)
    assert hash_code(plus) == hash_code(lambda x: x + 1)


def test_the_hash_is_the_same_in_every_process(load, tmp_path):
    module = load(name="shared")
    program = (
        "import shared; from lakehouse.features.udfs.codehash import hash_code; print(hash_code(shared.feature).digest)"
    )
    results = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert results == {hash_code(module.feature).digest}


constants = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.frozensets(st.integers())
    ),
    max_leaves=8,
)


@given(constants, constants)
def test_constants_hash_alike_exactly_if_they_are_alike(left, right):
    assert hash_values(left) == hash_values(left)
    assert (hash_values(left) == hash_values(right)) == (repr(left) == repr(right))


@given(st.sets(st.text(), max_size=20))
def test_sets_have_no_order(values):
    assert hash_values(values) == hash_values({*reversed([*values])})


def test_arrays_hash_by_type_shape_and_bytes():
    base = np.arange(6)
    others = [base.astype("i4"), base.reshape(2, 3), base + 1, base.astype("f8")]
    assert len({hash_values(array) for array in [base, *others]}) == 5
    assert hash_values(base[::2]) == hash_values(base[::2].copy())
