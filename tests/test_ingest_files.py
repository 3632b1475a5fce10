"""Real files into the three families, some broken in each of eight ways; gigabytes of the same are `make soak`."""

import pytest

from tests.soak import folders
from tests.soak.checking import add_and_kill, check, random_files
from tests.soak.ingesting import add

PLAN = folders.Plan(
    nbytes=30_000_000,
    picture_nbytes=(20_000, 1_000_000),
    video_nbytes=((300_000, 0.7), (1_000_000, 0.2), (3_000_000, 0.1)),
    text_nbytes=8_000,
)
# Small enough that fragments are finished while files are still to be read.
SMALL = "ingest.FRAGMENT_NBYTES = files.AHEAD_NBYTES = 1_500_000; files.BATCH_NBYTES = 500_000"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("files")
    folders.build(made, PLAN)
    return made


def test_adds_killed_at_random_files_and_called_again_store_each_file_once_and_name_each_broken_one(folder, tmp_path):
    content = folders.load(folder)
    kills = random_files(content, 3, seed=1)
    for table, files in kills.items():
        for file in files:
            add_and_kill(tmp_path / "lake", folder, table, file, tmp_path, SMALL)
        result = add(tmp_path / "lake", folder, table)
        assert (result.num_rows, result.num_failed) == (len(content[table].good), len(content[table].broken))
    check(tmp_path / "lake", content)
