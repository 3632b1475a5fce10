"""Ranks that a real `torchrun` started, over gloo, on a table that is being written to."""

from tests.torchrun import alone, committing, make_table, result, torchrun


def test_ranks_share_one_version_and_its_batches_while_a_writer_commits(lake, tmp_path):
    make_table(lake)
    with committing(lake):
        told = result(torchrun(2, lake, tmp_path / "told.json", commits=True, steps=5), tmp_path / "told.json")
    assert len(set(told["found"])) == 2  # else nothing had to be agreed on
    assert len(set(told["version"])) == len(set(told["length"])) == 1
    whole = alone(lake, told["version"][0])
    assert told["length"][0] == len(whole)
    assert told["batches"] == whole[:5]
    assert told["state"][0] == told["state"][1]
