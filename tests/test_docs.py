"""What the documentation says is what happens: blocks run, examples run, names and commands are all there."""

import ast
import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from numpydoc.docscrape import FunctionDoc
from numpydoc.validate import validate

import lakehouse as lh

ROOT = Path(__file__).parents[1]
OPT_OUT = re.compile(r"<!-- not run: \S.* -->")
FENCE = re.compile(r"^```(?P<language>\w*)$")
LINK = re.compile(r"\]\((?!https?:|#|mailto:)(?P<path>[^)#\s]+)")
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST_EXAMPLE_LINES = 40
LONGEST_EXAMPLE_S = 45  # of a processor a third as fast as ours; loading a language model takes eight of ours
LONGER_EXAMPLES = {"08_resume_killed_training.py": 66}  # lines: it saves, is killed and resumes
# Seconds: three processes of each load PyTorch, four seconds a process.
SLOWER_EXAMPLES = {"08_resume_killed_training.py": 90, "09_train_two_ranks.py": 90}


@dataclass(frozen=True)
class Block:
    language: str
    line: int  # of the opening fence
    opted_out: bool
    lines: list[str] = field(default_factory=list)


def linked(page):
    return [(page.parent / match["path"]).resolve() for match in LINK.finditer(page.read_text())]


def pages():
    """The README and every page of the repository that can be reached from it."""
    found = [ROOT / "README.md"]
    for page in found:
        found += [path for path in linked(page) if path.suffix == ".md" and path.exists() and path not in found]
    return found


def blocks(page):
    found, inside, above = [], False, ""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if inside and line == "```":
            inside = False
        elif inside:
            found[-1].lines.append(line)
        elif fence := FENCE.match(line):
            inside = True
            found.append(Block(fence["language"], number, bool(OPT_OUT.fullmatch(above))))
        elif line.strip():
            above = line.strip()
    return found


def shell(command, folder):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def commands(block):
    """What was typed: a whole script, or the lines of a console that follow a prompt; a backslash continues one."""
    if block.language != "console":
        return ["\n".join(block.lines)]
    text = "\n".join(block.lines).replace("\\\n", " ")
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_of_the_documentation_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.opted_out:
            continue
        if block.language == "python":  # padded, so that a traceback and `inspect.getsource` find the page's own lines
            exec(compile("\n" * block.line + "\n".join(block.lines), str(page), "exec"), namespace)
        elif block.language in ("console", "sh", "bash"):
            for command in commands(block):
                done = shell(command, tmp_path)
                assert done.returncode == 0, f"{page.name}:{block.line}: $ {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_says_its_language_and_every_link_leads_somewhere(page):
    assert all(block.language for block in blocks(page))
    assert [path for path in linked(page) if not path.exists()] == []


def test_a_page_is_read_as_meant(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n```python\nx = 1\n```\n<!-- not run: needs a GPU -->\n\n```console\n$ a \\\n  b\nout\n```\n")
    first, second = blocks(page)
    assert first == Block("python", 2, opted_out=False, lines=["x = 1"])
    assert second.opted_out
    assert commands(second) == ["a    b"]


# --- examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_short_and_runs_alone(path, tmp_path):
    assert re.fullmatch(r"\d\d(_[a-z]+){2,}\.py", path.name)
    assert len(path.read_text().splitlines()) <= LONGER_EXAMPLES.get(path.name, LONGEST_EXAMPLE_LINES)
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert done.stdout
    # its own seconds, not those of whoever shares the machine
    assert (after.children_user + after.children_system) - (
        before.children_user + before.children_system
    ) < SLOWER_EXAMPLES.get(path.name, LONGEST_EXAMPLE_S)
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_there_are_examples():
    assert EXAMPLES


# --- docstrings


def public():
    """Public names, and the public methods of the public classes: what a reader finds with tab."""
    for name in lh.__all__:
        value = getattr(lh, name)
        if inspect.ismodule(value):
            continue
        yield name, value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and (
                    inspect.isfunction(member) or isinstance(member, classmethod | property)
                ):
                    yield f"{name}.{attribute}", member


@pytest.mark.parametrize(("name", "value"), [*public()], ids=[name for name, _ in public()])
def test_every_public_name_is_described(name, value):
    described = inspect.unwrap(getattr(value, "__func__", value))
    text = inspect.getdoc(described)
    assert text, f"{name} has no docstring"
    if isinstance(value, property):
        return
    found = validate(f"{described.__module__}.{name}")["errors"]
    assert not {code for code, _ in found} & {"PR02", "PR03", "SS01", "SS06"}, found
    owner, _, method = name.partition(".")
    if not method or owner in ("Lake", "Table"):
        assert ">>>" in text.partition("Examples\n--------")[2], f"{name} has no example"


def test_documented_errors_are_errors_there_are():
    for name, value in public():
        if not callable(value) or inspect.isclass(value):
            continue
        for entry in FunctionDoc(value)["Raises"]:
            for raised in re.findall(r"\w+Error", entry.type or entry.name):
                assert raised in lh.errors.__all__, f"{name} is said to raise {raised}"


# --- command line


def verbs(command, words=()):
    children = getattr(command, "commands", None)
    if not children:
        return [" ".join(words)]
    return [verb for name, child in children.items() for verb in verbs(child, (*words, name))]


def test_every_function_of_sql_is_documented_with_what_it_gives():
    from lakehouse.sql.functions import FUNCTIONS
    from lakehouse.sql.statement.syntax import SEARCHES

    text = (ROOT / "docs" / "sql.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)\([^`]*\)` \| (\w+) \|", text, re.MULTILINE))
    assert told == {name: function.returns for name, function in FUNCTIONS.items()}
    assert set(re.findall(r"^\| `(\w+)\([^`]*\)` \| `", text, re.MULTILINE)) == SEARCHES


def test_every_command_is_documented():
    import typer

    from lakehouse.cli.app import app

    text = "\n".join(page.read_text() for page in pages())
    missing = [verb for verb in verbs(typer.main.get_command(app)) if f"lakehouse {verb}" not in text]
    assert missing == []
