"""The demo: what it makes is there, what it says is true, what it shows runs."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import lancedb
import pytest
from typer.testing import CliRunner

import lakehouse as lh
from lakehouse.cli.app import app
from lakehouse.demo import features as demo_features
from lakehouse.demo import files as demo_files
from lakehouse.demo import run_demo
from lakehouse.demo import steps as demo_steps
from lakehouse.demo.features import brightness
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
    rows = table(demo).to_arrow(["brightness", "sharpness", "palette", "dark"])
    assert [column.null_count for column in rows.columns] == [0] * 4
    assert set(table(demo).features()["state"].to_pylist()) == {"fresh"}
    for step in ("feature", "together"):
        assert 0 < figures[step]["nbytes_written"] < figures[step]["nbytes_untouched"] / 10


def test_rows_computed_before_the_kill_are_not_computed_again_and_the_other_engineer_is_not_disturbed(demo):
    together = demo[0].figures["together"]
    assert together["num_resumed"] >= 16
    assert together["num_computed"] + together["num_resumed"] == len(table(demo))
    assert together["num_filled_by_other"] == len(table(demo))
    filled = {row["column"]: row["who"] for row in table(demo).features().to_pylist()}
    assert filled.keys() == {"brightness", "sharpness", "palette", "dark"}


def test_a_changed_function_makes_its_column_stale_and_then_what_is_computed_from_it(demo):
    changed = demo[0].figures["changed"]
    assert changed["altered"]["brightness"] == "stale(code)"
    assert changed["refilled"] == {**changed["altered"], "brightness": "fresh", "dark": "stale(inputs)"}
    assert changed["num_computed"] == [len(table(demo))] * 2


def test_an_updated_picture_is_computed_again_and_no_other(demo):
    updated = demo[0].figures["updated"]
    assert set(updated["states"].values()) == {"stale(inputs)"}
    assert updated["num_computed"] == len(updated["states"])


def test_what_was_written_without_the_library_is_unverified(demo):
    found = demo[0].figures["from_outside"]
    assert set(found["states"].values()) == {"unverified"}
    assert found["num_computed"] > 0


def test_the_old_values_are_back_and_those_of_new_pictures_are_by_the_old_function(demo):
    pictures = table(demo)
    rolled = demo[0].figures["rolled_back"]
    assert rolled["num_true"] == len(pictures) - 2  # two pictures were replaced since
    rows = pictures.rows(pictures.to_arrow(["id"])["id"][:4].to_pylist())
    assert [row["brightness"] for row in rows] == pytest.approx([brightness(row["image"].pil()) for row in rows])
    events = pictures.column_history("brightness")["what"].to_pylist()
    assert [what for what in events if what in ("declared", "filled", "altered", "rolled back")][:3] == [
        "declared",
        "filled",
        "altered",
    ]
    assert "rolled back" in events


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
    for words in ("broken.jpg", "brightness", "palette", "fresh", "pictures", "videos", "texts", "rolled back"):
        assert words in html


def test_the_code_it_shows_runs(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo_files.make_files(tmp_path / "files")
    names = {"lh": lh, "lancedb": lancedb, **vars(demo_features), "crop": lambda row: {"label": row["label"]}}
    names["retouched"] = next((tmp_path / "files" / "pictures").rglob("part-00.jpg")).read_bytes()
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


def test_it_runs_without_the_extras_and_prints_json(tmp_path, monkeypatch):
    for module in (demo_files, demo_steps):
        monkeypatch.setattr(module, "find_spec", lambda name: None if name in ("skimage", "av") else find_spec(name))
    printed = CliRunner().invoke(app, ["demo", str(tmp_path / "drawn"), "--json"])
    result = json.loads(printed.stdout)
    assert lh.connect(result["lake"]).table_names() == ["pictures", "texts"]
    assert result["figures"]["tables"]["pictures"] == 14 * (demo_files.CROPS + 1)
    assert "<img" in Path(result["report"]).read_text(encoding="utf-8")


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_files, "CROPS", 1)
    for module in (demo_files, demo_steps):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    told = demo_steps.files(tmp_path).told
    assert "the pictures are drawn" in told[1]
    assert "no video without PyAV" in told[2]


def test_drawn_pictures_can_be_filmed(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_files, "find_spec", lambda name: None if name == "skimage" else find_spec(name))
    monkeypatch.setattr(demo_files, "CROPS", 1)
    demo_files.make_files(tmp_path / "files")
    [video] = (tmp_path / "files" / "videos").iterdir()
    assert lh.Video(video.read_bytes()).info.num_frames == 75
