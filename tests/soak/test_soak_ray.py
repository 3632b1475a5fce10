"""A node of a Ray cluster that is lost in mid-run costs the units it was at, and nothing else."""

import os
import signal
import threading
import warnings
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

import lakehouse as lh

pytestmark = pytest.mark.soak

ROWS = 4000


def slow_until(gate):
    @lh.udf(pa.int64(), batch=True, batch_size=20, version="1")
    def noted(x: pa.Array) -> pa.Array:
        import ray

        node = ray.get_runtime_context().get_node_id()
        with (Path(gate).parent / f"calls-{node}").open("a") as file:
            file.writelines(f"{value}\n" for value in x.to_pylist())
        return x

    return noted


@pytest.fixture
def cluster(monkeypatch):
    """Start a cluster of two nodes on this machine, the second of which can be lost."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lance is not fork-safe")
        import ray
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        second = nodes.add_node(num_cpus=1)
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes, second
        ray.shutdown()
        nodes.shutdown()


def test_a_lost_node_costs_its_units_only(tmp_path, cluster):
    nodes, second = cluster
    lake = lh.connect(tmp_path / "lake")
    table = lake.create_table("t", schema=pa.schema([("x", pa.int64())]))
    for part in np.array_split(np.arange(ROWS), 4):
        table.add(pa.table({"x": part}), progress=False)
    noted = slow_until(str(tmp_path / "gate"))
    table.add_columns({"noted": noted})

    def lose():
        """Kill the second node when it has computed something."""
        log = tmp_path / f"calls-{second.node_id}"
        while not log.exists():
            ended.wait(0.01)
        raylet = second.all_processes["raylet"][0].process.pid
        for process in [*psutil.Process(raylet).children(recursive=True), psutil.Process(raylet)]:
            os.kill(process.pid, signal.SIGKILL)

    ended = threading.Event()
    killer = threading.Thread(target=lose)
    killer.start()
    result = table.backfill("noted", udf=noted, executor="ray", progress=False)
    ended.set()
    killer.join()
    assert (result.num_filled, result.num_failed) == (ROWS, 0)
    assert table.to_arrow(["noted"])["noted"].to_pylist() == list(range(ROWS))
    calls = [int(line) for log in tmp_path.glob("calls-*") for line in log.read_text().split()]
    assert len({log.name for log in tmp_path.glob("calls-*")}) == 2
    assert len(calls) <= ROWS + 20  # a batch
