"""How tables look: text, notebook cells, reports."""

import io
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lakehouse.display import (
    Figure,
    TableView,
    first_rows,
    format_nbytes,
    format_value,
    report_html,
    spread_rows,
    table_html,
    table_text,
)
from lakehouse.display.thumbnail import MAX_NBYTES, MAX_SIDE_PX, thumbnail
from lakehouse.info import ColumnInfo, Outline
from lakehouse.media.handles import Image as ImageHandle
from lakehouse.media.handles import Text

COLUMNS = (
    ColumnInfo("id", "string", nbytes=100),
    ColumnInfo("image", "image, inline", "image", nbytes=90_000),
    ColumnInfo("caption", "text", "text", "what is seen", nbytes=400),
    ColumnInfo("score", "float32", None, "computed from image", "udf", "stale(code)", 0.5, 2, 40),
)


def noise(width, height, mode="RGB"):
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def handle(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return ImageHandle(file.getvalue())


BROKEN = ImageHandle(b"\x89PNG\r\n\x1a\n<b>")


def table_info(columns=COLUMNS, num_rows=3):
    return Outline("pets", "/lake/pets.lance", 7, num_rows, "id", columns)


def view(rows, failures=(), columns=COLUMNS, events=()):
    return TableView(table_info(columns, len(rows)), rows, failures, events)


def row(key="k1", picture=None, caption="a cat", score=0.5):
    return {"id": key, "image": picture or handle(noise(32, 24)), "caption": caption, "score": score}


class Parsed(HTMLParser):
    """Every tag that is opened is closed, and nothing is fetched or run."""

    VOID = frozenset({"img", "meta"})

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parsed_page(html):
    parser = Parsed()
    parser.feed(html)
    parser.close()
    assert parser.open == []
    assert "script" not in parser.tags
    assert "link" not in parser.tags
    assert not any(name.startswith("on") for name, _ in parser.attributes)
    assert all(value.startswith("data:image/webp;base64,") for name, value in parser.attributes if name == "src")
    assert not any(name == "href" for name, _ in parser.attributes)
    return parser


nasty = st.text() | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a" * 10_000, "é" * 5_000, "\x1b[2J"]
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    captions=st.lists(nasty, max_size=6),
    name=nasty.filter(bool),
    failures=st.lists(nasty, max_size=30),
    bound=st.integers(16_000, 60_000),
)
def test_pages_are_well_formed_escaped_and_bounded(captions, name, failures, bound):
    picture = handle(noise(32, 24))
    columns = (*COLUMNS[:3], ColumnInfo(name + "x", name, None, name, "sql", "fresh", 1.0))
    rows = [{"id": c, "image": picture, "caption": c, name + "x": c} for c in captions]
    events = [{"version": 1, "column": f, "what": f, "source": f, "who": f} for f in failures]
    drawn = view(rows, [{"key": f, "column": f, "message": f} for f in failures], columns, events)
    for html in (
        table_html(drawn, bound),
        report_html(name, [drawn, drawn], subtitle=name, figures=[Figure(name, name)], max_nbytes=bound),
    ):
        assert len(html.encode()) <= bound
        parsed_page(html)


def test_what_does_not_fit_is_said_to_be_left_out():
    rows = [row(f"k{i}", handle(noise(200, 200))) for i in range(8)]
    small = table_html(view(rows), 30_000)
    shown = parsed_page(small).tags.count("img")
    assert 0 < shown < 8
    assert f"{8 - shown} more" in small


def test_a_wide_table_keeps_key_media_and_features_in_the_grid():
    plain = tuple(ColumnInfo(f"c{i}", "int64") for i in range(30))
    columns = (*plain, *COLUMNS)
    values = {c.name: 1 for c in plain} | row()
    html = table_html(view([values], columns=columns))
    head = html.partition("</thead>")[0]
    assert all(f"<th>{name}<i>" in head for name in ("id", "image", "score"))
    assert "24 more columns in the list below" in html


def test_a_picture_that_does_not_decode_is_named_and_the_rest_is_drawn():
    rows = [{"id": "bad", "image": BROKEN, "caption": "", "score": 0.0}, row("good")]
    parsed = parsed_page(table_html(view(rows)))
    assert parsed.tags.count("img") == 1
    assert [value for name, value in parsed.attributes if name == "title"] == [thumbnail(BROKEN, "image").reason]


def test_a_report_shows_state_failures_and_figures():
    event = {"version": 3, "column": "score", "what": "rolled back", "source": "my:score", "who": "ada"}
    drawn = view([row()], [{"key": "broken.jpg", "column": "image", "message": "truncated"}], events=[event])
    texts = parsed_page(report_html("My lake", [drawn], figures=[Figure("7.1 kB", "written")])).texts
    for words in (
        "My lake",
        "7.1 kB",
        "written",
        "stale(code)",
        "50% filled, 2 failed",
        "broken.jpg",
        "truncated",
        "rolled back",
        "my:score",
    ):
        assert words in texts


def test_a_table_without_rows_or_media_is_drawn():
    columns = COLUMNS[:1]
    parsed_page(report_html("empty", [view([], columns=columns)]))
    parsed_page(table_html(view([{"id": "a"}], columns=columns)))


@pytest.mark.parametrize("picture", [noise(600, 300), noise(6, 3).resize((600, 300)), noise(2400, 1200)])
def test_thumbnails_are_small_and_keep_their_shape(picture):
    small = thumbnail(handle(picture), "image")
    assert 0 < len(small.data) <= MAX_NBYTES
    assert small.width_px <= MAX_SIDE_PX
    assert small.width_px == 2 * small.height_px


def test_a_video_is_shown_by_a_frame_of_its_first_second():
    asked = []

    def frame_at(t_s):
        asked.append(t_s)
        return noise(64, 48)

    for duration_s in (60.0, 0.6, None):
        video = SimpleNamespace(info=SimpleNamespace(duration_s=duration_s), frame_at=frame_at)
        assert thumbnail(video, "video").width_px == 64
    assert asked == [1.0, pytest.approx(0.2), 0.0]


@given(st.integers(0, 10**16))
def test_bytes_are_written_in_three_digits_that_are_right(nbytes):
    number, unit = format_nbytes(nbytes).replace(",", "").split()
    scale = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert abs(float(number) * scale - nbytes) <= 0.005 * nbytes
    assert float(number) < 1000 or unit == "TB"


@given(
    st.text() | st.floats() | st.lists(st.floats()) | st.binary() | st.dictionaries(st.text(), st.integers()),
    st.integers(5, 200),
)
def test_a_value_is_one_printable_line_within_its_width(value, max_chars):
    text = format_value(value, max_chars)
    assert len(text) <= max_chars
    assert text.isprintable()


def test_values_read_as_people_write_them():
    assert format_value(None) == ""
    assert format_value(np.float32(0.25)) == "0.25"
    assert format_value(np.arange(3)) == "[0, 1, 2]"
    assert format_value(True) == "true"
    assert format_value({"a": [1]}) == '{"a": [1]}'
    assert format_value(ImageHandle(bytes(1234))) == "1.23 kB"
    assert format_value(Text("a cat")) == "a cat"
    assert format_value("two\nlines") == "two lines"


def test_a_table_is_one_line_of_text():
    line = "<Table pets: 1,204 rows, 4 columns (1 feature), version 7, /lake/pets.lance>"
    assert table_text(table_info(num_rows=1204)) == line


def test_columns_that_nobody_measured_have_no_bytes():
    columns = (ColumnInfo("id", "string"), ColumnInfo("score", "float32", feature="udf"))
    html = table_html(view([{"id": "a", "score": 1.0}], columns=columns))
    assert "bytes" not in html.partition("</style>")[2]
    assert "<td>feature</td>" in html


def test_a_notebook_shows_the_first_rows_of_a_real_table(pets):
    parsed = parsed_page(pets._repr_html_())
    assert parsed.tags.count("img") == 5
    assert "20 rows, 17 columns · version 2" in parsed.texts
    assert len(pets._repr_html_().encode()) <= 256_000
    assert repr(pets) == f"<Table pets: 20 rows, 17 columns, version 2, {pets.uri}>"


def test_rows_of_a_report_are_spread_over_the_table(pets):
    ids = pets.to_arrow(["id"])["id"].to_pylist()
    assert [r["id"] for r in spread_rows(pets.snapshot(), 4)] == [ids[i] for i in (0, 5, 10, 15)]
    assert [r["id"] for r in spread_rows(pets.snapshot(), 99)] == ids
    assert [r["id"] for r in first_rows(pets.snapshot(), 3)] == ids[:3]
    pets.delete("true")
    assert spread_rows(pets.snapshot(), 4) == first_rows(pets.snapshot(), 3) == []
