"""The demo: what it makes is there, what it says is true, what it shows runs."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import CliRunner

import lakehouse as lh
from lakehouse.cli.app import app
from lakehouse.demo import files as demo_files
from lakehouse.demo import run_demo
from lakehouse.demo import steps as demo_steps
from lakehouse.demo.features import brightness, palette
from lakehouse.errors import AlreadyExistsError


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Run it once; give what it made, what it measured and what it said."""
    said = []
    result = run_demo(tmp_path_factory.mktemp("demo") / "new", said.append)
    return result, said


def table(demo):
    return lh.connect(demo[0].lake).open_table("pictures")


def test_every_picture_but_the_broken_one_is_stored_and_it_is_named(demo):
    pictures = table(demo)
    found = list(Path(demo[0].folder, "files", "pictures").rglob("*.jpg"))
    assert len(pictures) == len(found) - 1
    assert [Path(e["key"]).name for e in pictures.errors().to_pylist()] == ["broken.jpg"]


def test_features_are_whole_and_wrote_little(demo):
    figures = demo[0].figures
    rows = table(demo).to_arrow(["brightness", "palette"])
    assert rows["brightness"].null_count == rows["palette"].null_count == 0
    assert set(table(demo).features()["state"].to_pylist()) == {"fresh"}
    for step in ("feature", "killed"):
        assert 0 < figures[step]["nbytes_written"] < figures[step]["nbytes_untouched"] / 10


def test_rows_computed_before_the_kill_are_not_computed_again(demo):
    killed = demo[0].figures["killed"]
    assert killed["num_resumed"] >= 16
    assert killed["num_computed"] + killed["num_resumed"] == len(table(demo))


def test_the_nearest_pictures_are_of_the_same_subject(demo):
    labels = demo[0].figures["similar"]["labels"]
    assert labels["cat"] == max(labels.values())


def test_the_saved_sample_is_the_stored_picture(demo):
    saved = Path(demo[0].folder, "sample.jpg").read_bytes()
    assert saved == Path(demo[0].folder, "files", "pictures", "cat", "whole.jpg").read_bytes()


def test_the_report_is_one_file_of_bounded_size_that_shows_all(demo):
    html = Path(demo[0].report).read_text(encoding="utf-8")
    assert len(html) < 2_000_000
    assert not re.search(r"https?://|<script|<link|url\(", html)
    assert html.count("<img") > 20
    assert 'class="video"' in html
    for words in ("broken.jpg", "brightness", "palette", "fresh", "pictures", "videos", "texts"):
        assert words in html


def test_the_code_it_shows_runs(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo_files.make_files(tmp_path / "files")
    names = {"lh": lh, "brightness": brightness, "palette": palette, "crop": lambda row: {"label": row["label"]}}
    for step in demo[1]:
        for line in step.code.splitlines():
            exec(line, names)
        if "t" in names:
            names["key"] = names["t"].head(1, columns=["id"])["id"][0].as_py()
            names["row"] = names["t"][names["key"]]
    assert len(names["t"]) == len(table(demo))


def test_the_command_tells_the_steps_and_a_second_run_takes_another_folder(demo, tmp_path, monkeypatch):
    for step in demo[1]:
        assert step.title
        assert step.told
    with pytest.raises(AlreadyExistsError, match="not an empty folder"):
        run_demo(Path(demo[0].folder))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    result = CliRunner().invoke(app, ["demo", str(tmp_path / "taken")])
    assert result.exit_code == 1
    assert result.stderr.startswith("lakehouse: ")


def test_it_runs_without_the_extras_and_says_so(tmp_path, monkeypatch):
    for module in (demo_files, demo_steps):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in ("skimage", "av") else find_spec(name))
    said = []
    result = run_demo(tmp_path / "drawn", said.append)
    assert "the pictures are drawn" in said[0].told[1]
    assert "no video without PyAV" in said[0].told[2]
    assert lh.connect(result.lake).table_names() == ["pictures", "texts"]
    assert result.figures["tables"]["pictures"] == 14 * (demo_files.CROPS + 1)
    assert "<img" in Path(result.report).read_text(encoding="utf-8")


def test_drawn_pictures_can_be_filmed(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_files, "find_spec", lambda name: None if name == "skimage" else find_spec(name))
    monkeypatch.setattr(demo_files, "CROPS", 1)
    demo_files.make_files(tmp_path / "files")
    [video] = (tmp_path / "files" / "videos").iterdir()
    assert lh.Video(video.read_bytes()).info.num_frames == 75
