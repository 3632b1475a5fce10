"""What importing the library costs, and what it leaves alone."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ["torch", "duckdb", "PIL", "av", "ray", "lancedb", "lance", "pandas", "rich", "typer", "fsspec"]
THREADS = ["LANCE_CPU_THREADS", "LANCE_IO_THREADS"]


def fresh(code, **environment):
    """Run code in a new interpreter that knows none of our variables; return what it prints as JSON."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LANCE_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_loads_nothing_heavy():
    loaded = fresh("import lakehouse, sys, json; print(json.dumps(sorted(sys.modules)))")
    assert "lakehouse" in loaded
    assert not set(HEAVY) & set(loaded)


def test_importing_takes_a_blink():
    # of the processor, and the quickest of several: others may be using the machine
    code = "import time; t = time.process_time(); import lakehouse; print(time.process_time() - t)"
    assert min(fresh(code) for _ in range(3)) <= 0.3


def test_every_public_name_resolves_and_tab_completion_shows_it():
    names, listed = fresh(
        "import lakehouse as lh, json; [getattr(lh, n) for n in lh.__all__]; print(json.dumps([lh.__all__, dir(lh)]))"
    )
    assert set(names) <= set(listed)
    assert len(names) == len(set(names))


def test_a_name_that_is_not_there_is_an_attribute_error():
    import lakehouse as lh

    with pytest.raises(AttributeError, match="conect"):
        lh.conect  # noqa: B018 - the access is the test


def test_lance_finds_its_threads_set(tmp_path):
    environment = fresh(
        "import lakehouse as lh, json, os, sys\n"
        f"lake = lh.connect({str(tmp_path)!r}); lake.create_table('t', data=[{{'x': 1}}])\n"
        "assert 'lance' in sys.modules\n"
        "print(json.dumps(dict(os.environ)))"
    )
    assert int(environment["LANCE_CPU_THREADS"]) >= os.cpu_count()  # its default is two fewer, one on two cores
    assert int(environment["LANCE_IO_THREADS"]) > 1  # one hangs


def test_a_users_own_threads_stay():
    chosen = dict.fromkeys(THREADS, "3")
    environment = fresh("import lakehouse._lance, json, os; print(json.dumps(dict(os.environ)))", **chosen)
    assert {name: environment[name] for name in THREADS} == chosen


def test_a_forked_child_is_told_how_to_do_it_instead(tmp_path):
    # a plain table first: Lance's threads run, and the child has none of them
    assert fresh(
        "import json, os, sys, warnings\n"
        "warnings.simplefilter('ignore')  # Python 3.12 warns of forks by itself\n"
        "import lakehouse as lh\n"
        f"lake = lh.connect({str(tmp_path)!r}); lake.create_table('t', data=[{{'x': 1}}])\n"
        "reader, writer = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        lake.open_table('t').count_rows()\n"
        "    except lh.errors.LakehouseError as error:\n"
        "        os.write(writer, str(error).encode())\n"
        "    os._exit(0)\n"
        "os.close(writer); os.wait()\n"
        "print(json.dumps('spawn' in os.read(reader, 10_000).decode()))"
    )


def test_the_package_says_that_it_is_typed():
    from importlib.resources import files

    assert (files("lakehouse") / "py.typed").is_file()


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    import lakehouse as lh

    assert lh.__version__ == version("lance-lakehouse")
