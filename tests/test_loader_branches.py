"""Loaders over a branch, which others make and write to: states, pins and selections are of the branch."""

import datetime as dt
import json
from itertools import islice

import lance
import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader

import lakehouse as lh
from lakehouse.errors import InvalidArgumentError

NUM_ROWS = 60


@pytest.fixture
def branched(lake):
    """A table, its branch, and pylance's handle that writes to the branch."""
    table = lake.create_table("pets", data=pa.table({"x": np.arange(40)}))
    writer = lance.dataset(table.uri).create_branch("team/exp")
    writer.insert(pa.table({"x": np.arange(40, NUM_ROWS)}))
    return table, lake.open_table("pets", branch="team/exp"), writer


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


def moved_on(writer):
    """Delete, compact, and clean up as hard as Lance can."""
    writer.delete("x % 2 = 0")
    writer.optimize.compact_files()
    writer.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def test_a_state_over_a_branch_goes_on_at_its_version_whatever_became_of_the_branch(branched):
    table, branch, writer = branched
    whole = xs(branch.loader(batch_size=8, seed=1))
    one = branch.loader(batch_size=8, seed=1)
    got = xs(islice(one, 3))
    state = json.loads(json.dumps(one.state_dict()))
    assert state["table"] == "pets@team/exp"
    moved_on(writer)
    assert len(branch) == NUM_ROWS // 2
    again = branch.loader(batch_size=8, seed=1)
    again.load_state_dict(state)
    assert got + xs(again) == whole
    with pytest.raises(InvalidArgumentError, match="saved from table 'pets@team/exp'.*this loader reads 'pets'"):
        table.loader(batch_size=8, seed=1).load_state_dict(state)


def test_a_mix_of_a_branch_and_its_main_line_goes_on(branched):
    table, branch, writer = branched

    def mixed():
        return lh.mix({branch.loader(batch_size=8): 1, table.loader(batch_size=8): 1}, until=9)

    whole, one = xs(mixed()), mixed()
    got = xs(islice(one, 4))
    moved_on(writer)
    again = mixed()
    again.load_state_dict(json.loads(json.dumps(one.state_dict())))
    assert got + xs(again) == whole


def test_the_faces_for_torchs_dataloader_have_states_over_a_branch(branched):
    _, branch, _ = branched
    whole = xs(branch.loader(batch_size=8, seed=1))
    iterable = branch.torch_iterable(batch_size=8, seed=1)
    batches = iter(iterable)
    got, rest = xs(islice(batches, 2)), iter(iterable)
    rest.load_state_dict(batches.state_dict())
    assert got + xs(rest) == whole
    dataset = branch.torch_dataset()
    sampler = branch.batch_sampler(dataset, batch_size=8, seed=1)
    drawn = list(islice(sampler, 2))
    resumed = branch.batch_sampler(dataset, batch_size=8, seed=1)
    resumed.load_state_dict(sampler.state_dict())
    assert len(drawn) + len(resumed) - 2 == len(whole)
    assert xs(DataLoader(dataset, batch_sampler=resumed)) == whole[2:]


def test_a_selection_of_a_branch_is_kept_from_clean_up(branched, lake):
    _, branch, writer = branched
    branch.save_selection("odd-ones", where="x > 30")
    moved_on(writer)
    assert sorted(sum(xs(lake.open_selection("odd-ones").loader(batch_size=1)), [])) == list(range(31, NUM_ROWS))
