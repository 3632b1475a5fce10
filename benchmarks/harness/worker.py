"""The child process of a trial: ``python -m benchmarks.harness.worker TRIAL_JSON ANSWER_PATH``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness.trial import Trial, in_this_process


def main(trial_json: str, answer: str) -> None:
    outcome = in_this_process(Trial(**json.loads(trial_json)))
    Path(answer).write_text(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main(*sys.argv[1:])
