"""What a process asked for and what came of it: a JSON line at each, written at once, so that a killed one tells too."""

import json
import time
from contextlib import contextmanager
from pathlib import Path


class History:
    """The history of one process.

    Parameters
    ----------
    plan
        Of the run.
    name
        Of the process.
    """

    def __init__(self, plan, name):
        folder = Path(plan.folder) / "histories"
        folder.mkdir(exist_ok=True)
        self._name, self._file = name, folder / f"{name}.jsonl"

    def tell(self, event, **what):
        """Write a line; times are nanoseconds of the clock that all processes of the machine share."""
        line = {"at": time.monotonic_ns(), "process": self._name, "event": event, **what}
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def operation(self, name, **asked):
        """Write when it began and how it ended; the block puts what came of it into the mapping."""
        self.tell("invoke", operation=name, **asked)
        came = {}
        try:
            yield came
        except Exception as error:
            self.tell("fail", operation=name, error=f"{type(error).__name__}: {error}")
            raise
        self.tell("ok", operation=name, **came)


def lines(folder, name):
    """Return the lines of the files below a folder whose names match, in order of time."""
    files = sorted(Path(folder).glob(name))
    found = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return sorted(found, key=lambda line: line["at"])


def operations(plan, name):
    """Return the operations of the processes whose names match, each with what was asked and what came of it."""
    done, begun = [], {}
    for file in sorted((Path(plan.folder) / "histories").glob(f"{name}.jsonl")):
        for line in lines(file.parent, file.name):
            if line["event"] == "invoke":
                begun = line
            elif line["event"] in ("ok", "fail"):
                done.append({**begun, **line, "since": begun["at"]})
    return sorted(done, key=lambda one: one["since"])
