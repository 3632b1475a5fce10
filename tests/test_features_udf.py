"""What a user declares is checked at once, hashed once, and called row by row or in batches with errors as data."""

import io
import os
import subprocess
import sys
import time
from typing import Any

import cloudpickle
import numpy as np
import PIL.Image
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import BackfillError, InvalidArgumentError, SchemaError
from lakehouse.features.udfs.calls import call_rows
from lakehouse.features.udfs.signature import InputKind
from lakehouse.features.udfs.udf import UDF, as_udf, import_udf, udf


@udf(pa.int64(), version="1")
def area(width: int, height: int) -> int:
    return width * height


@udf(pa.list_(pa.float32(), 3), batch=True, batch_size=2)
class Embed:
    def __init__(self, model: str, scale: float = 1.0) -> None:
        self.built = [model]
        self.scale = scale
        self.closed = False

    def __call__(self, x: pa.Array) -> np.ndarray:
        self.built.append(len(x))
        return np.outer(x.to_numpy(), [1, 2, 3]) * self.scale

    def close(self) -> None:
        self.closed = True


def png(size=(4, 3), color=(255, 0, 0)) -> bytes:
    out = io.BytesIO()
    PIL.Image.new("RGB", size, color).save(out, "PNG")
    return out.getvalue()


def test_a_declared_function_says_what_it_reads_and_gives_and_still_is_the_function():
    assert area(3, 4) == 12
    assert area.name == f"{__name__}:area"
    assert area.inputs == ("width", "height")
    assert area.outputs == {"area": pa.int64()}
    assert as_udf(area) is area
    assert import_udf(area.name) is area


def test_parameters_with_a_default_are_no_inputs_unless_named():
    def f(x, k=2, *, mode="a"):
        return x * k

    assert udf(pa.int64())(f).inputs == ("x",)
    assert udf(pa.int64(), inputs=["width", "factor"])(f).inputs == ("width", "factor")
    outcome = call_rows(udf(pa.int64(), inputs=["width"])(f), {"width": pa.array([1, 2])})
    assert outcome.arrays["f"].to_pylist() == [2, 4]


def test_a_date_that_python_has_no_room_for_fails_its_row_alone():
    days = pa.array([0, 2**31 - 2], pa.int32()).cast(pa.date32())
    outcome = call_rows(udf(pa.int64(), inputs=["day"])(lambda day: day.year), {"day": days})
    assert outcome.arrays["<lambda>"].to_pylist() == [1970, None]
    assert [error.row_index for error in outcome.errors] == [1]


@pytest.mark.parametrize(
    ("options", "function", "word"),
    [
        ({}, lambda *columns: 1, "columns"),
        ({}, lambda **columns: 1, "columns"),
        ({}, lambda: 1, "no column"),
        ({}, eval("lambda x, *, k: 1"), "default"),
        ({"inputs": ["a", "b"]}, lambda x: 1, "2 columns"),
        ({"inputs": "a"}, lambda x: 1, "list"),
        ({"batch_size": 3}, lambda x: 1, "batch=True"),
        ({"batch": True, "batch_size": 0}, lambda x: 1, "1 or more"),
        ({"timeout_s": 1.0}, lambda x: 1, "not available yet"),
        ({"retry_on": OSError}, lambda x: 1, r"\(TimeoutError,\)"),
        ({"retry_on": ["OSError"]}, lambda x: 1, r"\(TimeoutError,\)"),
        ({"retry_on": (KeyboardInterrupt,)}, lambda x: 1, r"\(TimeoutError,\)"),
        ({"num_gpus": -1}, lambda x: 1, "positive"),
        ({"version": ""}, lambda x: 1, "empty"),
        ({}, 3, "int"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_once(options, function, word):
    with pytest.raises(InvalidArgumentError, match=word):
        udf(pa.int64(), **options)(function)


@pytest.mark.parametrize(
    ("data_type", "word"),
    [
        ("flaot32", "float32"),
        ("category", "values"),
        ({"_rowid": pa.int64()}, "reserved"),
        (3, "no type"),
        (pa.union([pa.field("a", pa.int32())], "dense"), "stored"),
    ],
)
def test_a_type_no_column_can_have_is_refused(data_type, word):
    with pytest.raises(SchemaError, match=word):
        udf(data_type)(lambda x: x)


def test_the_decorator_without_a_type_says_how_to_write_it():
    with pytest.raises(InvalidArgumentError, match=r"@lh\.udf\(pa\.float32\(\)\)"):
        udf(lambda x: x)


def test_async_and_generator_functions_are_refused():
    async def later(x):
        return x

    def several(x):
        yield x

    for function in (later, several):
        with pytest.raises(InvalidArgumentError, match="return"):
            udf(pa.int64())(function)


@pytest.mark.parametrize(
    ("annotation", "batch", "kind"),
    [
        (int, False, InputKind("value")),
        (int | None, False, InputKind("value", takes_null=True)),
        (Any, False, InputKind("value", takes_null=True)),
        (None, False, InputKind("value", takes_null=True)),
        (bytes, False, InputKind("bytes")),
        (np.ndarray, False, InputKind("numpy")),
        (PIL.Image.Image, False, InputKind("pil")),
        (list[float], False, InputKind("value")),
        ("PIL.Image.Image", False, InputKind("pil")),
        ("Image.Image | None", False, InputKind("pil", takes_null=True)),
        ("lh.Video", False, InputKind("video")),
        (lh.Image, False, InputKind("image")),
        ("NotImported", False, InputKind("value")),
        ("NotImported | None", False, InputKind("value", takes_null=True)),
        (None, True, InputKind("arrow", takes_null=True)),
        (pa.Array, True, InputKind("arrow", takes_null=True)),
        (np.ndarray, True, InputKind("numpy")),
        (list[PIL.Image.Image], True, InputKind("pil", listed=True)),
        (list[bytes | None], True, InputKind("bytes", listed=True, takes_null=True)),
        (list, True, InputKind("value", listed=True, takes_null=True)),
    ],
)
def test_annotations_choose_the_form_of_an_input(annotation, batch, kind):
    def f(x):
        return x

    f.__annotations__ = {} if annotation is None else {"x": annotation}
    assert udf(pa.int64(), batch=batch)(f).input_kinds == (kind,)


@pytest.mark.parametrize(("annotation", "batch"), [(pa.Array, False), (PIL.Image.Image, True)])
def test_annotations_that_contradict_batch_are_refused(annotation, batch):
    def f(x):
        return x

    f.__annotations__ = {"x": annotation}
    with pytest.raises(InvalidArgumentError, match=r"batch=True"):
        udf(pa.int64(), batch=batch)(f)


@pytest.mark.parametrize("annotation", ["Image", "Video", "list[Text]"])
def test_an_annotation_that_could_mean_two_things_is_refused(annotation):
    def f(x):
        return x

    f.__annotations__ = {"x": annotation}
    with pytest.raises(InvalidArgumentError, match="TYPE_CHECKING"):
        udf(pa.int64())(f)


@pytest.mark.parametrize(
    ("annotation", "batch", "column", "word"),
    [
        (PIL.Image.Image, False, pa.array([1]), "'x' is int64"),
        (lh.Video, False, pa.array(["a"]), "'x' is string"),
        (np.ndarray, True, pa.array([b"x"]), r"list\[np.ndarray\]"),
    ],
)
def test_a_column_of_another_kind_than_annotated_is_refused(annotation, batch, column, word):
    def f(x):
        return x

    f.__annotations__ = {"x": annotation}
    with pytest.raises(InvalidArgumentError, match=word):
        call_rows(udf(pa.int64(), batch=batch)(f), {"x": column})


def test_the_hash_covers_types_inputs_and_arguments_and_not_where_it_runs():
    def f(x):
        return x

    hashes = [
        udf(pa.int64())(f).code_hash,
        udf(pa.int32())(f).code_hash,
        udf(pa.int64(), inputs=["y"])(f).code_hash,
        udf({"a": pa.int64(), "b": pa.int64()})(f).code_hash,
        udf(pa.int64(), batch=True)(f).code_hash,
        Embed("a").code_hash,
        Embed("b").code_hash,
    ]
    assert len(set(hashes)) == len(hashes)
    assert udf(pa.int64(), num_cpus=4, num_gpus=1, memory_nbytes=2**30)(f).code_hash == hashes[0]
    assert Embed(model="a").code_hash == Embed("a").code_hash


def test_exceptions_to_try_again_after_are_kept_and_not_hashed():
    def f(x):
        return x

    patient = udf(pa.int64(), retry_on=[TimeoutError, ConnectionError])(f)
    assert patient.retry_on == (TimeoutError, ConnectionError)
    assert udf(pa.int64())(f).retry_on == ()
    assert patient.code_hash == udf(pa.int64())(f).code_hash


def test_a_version_stands_for_the_code():
    def make(version, n):
        def f(x):
            return x + n

        return udf(pa.int64(), version=version)(f)

    assert make("1", 1).code_hash == make(1, 2).code_hash != make("2", 1).code_hash
    assert make(None, 1).code_hash != make(None, 2).code_hash


def test_arguments_of_a_class_are_json():
    assert Embed("m").arguments == {"model": "m"}
    for wrong in ({"model": object()}, {"model": (1, 2)}, {"model": float("nan")}, {"modle": "m"}):
        with pytest.raises(InvalidArgumentError):
            Embed(**wrong)


def test_what_is_no_udf_is_told_what_it_lacks():
    for value, word in ((Embed, r"Embed\(…\)"), (len, "decorate"), ("area", "'area' is no function")):
        with pytest.raises(InvalidArgumentError, match=word):
            as_udf(value)
    for name in ("nowhere:f", f"{__name__}:aera", "__main__:f", f"{__name__}:f.<locals>.g"):
        with pytest.raises(InvalidArgumentError, match="udf="):
            import_udf(name)
    assert import_udf(f"{__name__}:Embed", {"model": "m"}).arguments == {"model": "m"}


def test_a_class_is_built_once_when_first_called_and_closed_at_the_end():
    made = Embed(model="m", scale=2.0)
    outcomes = [call_rows(made, {"x": pa.array([1.0, 2.0, 3.0])}) for _ in range(2)]
    assert made.function.built == ["m", 2, 1, 2, 1]
    assert outcomes[0].arrays["Embed"].to_pylist() == [[2, 4, 6], [4, 8, 12], [6, 12, 18]]
    instance = made.function
    made.close()
    assert instance.closed
    assert made.function is not instance


def test_a_class_that_cannot_be_built_says_why():
    @udf(pa.int64())
    class Broken:
        def __init__(self):
            raise OSError("no weights")

        def __call__(self, x):
            return x

    with pytest.raises(BackfillError, match=r"test_features_udf\.py:\d+ in __init__: OSError: no weights"):
        call_rows(Broken(), {"x": pa.array([1])})


def test_a_row_that_raises_costs_its_row_and_names_the_users_line():
    @udf(pa.float64())
    def inverse(x: float) -> float:
        return 1 / x

    outcome = call_rows(inverse, {"x": pa.array([2.0, 0.0, 4.0])})
    assert outcome.arrays["inverse"].to_pylist() == [0.5, None, 0.25]
    assert outcome.failed.tolist() == [False, True, False]
    (error,) = outcome.errors
    line = inverse.target.__code__.co_firstlineno + 2
    assert (error.row_index, error.error) == (1, "ZeroDivisionError")
    assert error.message.startswith(f"test_features_udf.py:{line} in inverse: ZeroDivisionError: ")


def test_an_error_raised_in_a_package_names_the_users_line_first():
    @udf(pa.float64())
    def f(x):
        return float(np.linalg.inv(np.zeros((2, 2)))[0, 0])

    (error,) = call_rows(f, {"x": pa.array([1])}).errors
    assert error.message.startswith("test_features_udf.py:")
    assert "in f: LinAlgError" in error.message
    assert "raised at" in error.message


def test_a_null_gives_null_without_a_call_unless_the_parameter_takes_none():
    @udf(pa.int64())
    def strict(x: int, y: int) -> int:
        return x + y

    @udf(pa.int64())
    def lenient(x: int | None, y: int | None) -> int:
        return (x or 0) + (y or 0)

    columns = {"x": pa.array([1, None, 3]), "y": pa.array([1, 2, None])}
    outcome = call_rows(strict, columns)
    assert outcome.arrays["strict"].to_pylist() == [2, None, None]
    assert not outcome.failed.any()
    assert call_rows(lenient, columns).arrays["lenient"].to_pylist() == [2, 2, 3]


def test_none_is_a_value_and_no_failure():
    outcome = call_rows(udf(pa.int64())(lambda x: None), {"x": pa.array([1, 2])})
    assert outcome.arrays["<lambda>"].to_pylist() == [None, None]
    assert not outcome.failed.any()


def test_several_outputs_come_as_tuple_or_mapping_and_fail_together():
    @udf({"double": pa.int64(), "text": pa.string()})
    def f(x: int):
        return {1: (2, "a"), 2: {"text": "b", "double": 4}, 3: (1,), 4: (1, 2)}[x]

    outcome = call_rows(f, {"x": pa.array([1, 2, 3, 4, 5])})
    assert outcome.arrays["double"].to_pylist() == [2, 4, None, None, None]
    assert outcome.arrays["text"].to_pylist() == ["a", "b", None, None, None]
    assert [error.row_index for error in outcome.errors] == [2, 3, 4]
    assert "double, text" in outcome.errors[0].message
    assert "'text', which is string" in outcome.errors[1].message


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        (pa.uint8(), 300),
        (pa.int64(), 1.5),
        (pa.int64(), "1"),
        (pa.list_(pa.float32(), 2), [1.0]),
        (pa.list_(pa.int32()), [1, 1.5]),
        (pa.struct([("n", pa.int32())]), {"n": 0.5}),
        (pa.string(), 1),
    ],
)
def test_a_value_that_does_not_fit_is_a_failed_row(data_type, value):
    good = {"x": None}
    outcome = call_rows(udf(data_type)(lambda x: value if x else good["x"]), {"x": pa.array([0, 1])})
    assert outcome.failed.tolist() == [False, True]
    assert repr(value) in outcome.errors[0].message


@pytest.mark.parametrize(
    "result",
    [
        lambda x: x,
        lambda x: x.to_numpy(),
        lambda x: x.to_pylist(),
        lambda x: pa.chunked_array([x]),
        lambda x: x.cast(pa.int32()),
        lambda x: x.to_numpy().astype("f8"),
    ],
)
def test_batch_results_may_be_arrow_numpy_or_a_list(result):
    outcome = call_rows(udf(pa.int64(), batch=True)(result), {"x": pa.array([1, 2, 3])})
    assert outcome.arrays["<lambda>"].to_pylist() == [1, 2, 3]
    assert outcome.arrays["<lambda>"].type == pa.int64()


@pytest.mark.parametrize(
    ("result", "word"),
    [
        (lambda x: x[:2], "2 values for 3 rows"),
        (lambda x: 5, "one value a row"),
        (lambda x: "abc", "one value a row"),
        (lambda x: np.zeros((3, 4)), "int64"),
    ],
)
def test_a_batch_result_of_the_wrong_shape_fails_every_row_with_the_reason(result, word):
    outcome = call_rows(udf(pa.int64(), batch=True)(result), {"x": pa.array([1, 2, 3])})
    assert outcome.failed.all()
    assert all(word in error.message for error in outcome.errors)


def test_batches_of_several_outputs():
    @udf({"a": pa.int64(), "v": pa.list_(pa.float32(), 2)}, batch=True)
    def f(x: np.ndarray):
        return x * 2, np.stack([x, x], axis=1)

    outcome = call_rows(f, {"x": pa.array([1, None, 3])})
    assert outcome.arrays["a"].to_pylist() == [2, None, 6]
    assert outcome.arrays["v"].to_pylist() == [[1, 1], None, [3, 3]]


def test_vectors_reach_numpy_parameters_whole():
    vectors = pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.float32(), 2))[1:]
    total = udf(pa.float64(), batch=True)(batch_sum)
    assert call_rows(total, {"v": vectors}).arrays["batch_sum"].to_pylist() == [None, 7, 11]
    each = udf(pa.float64())(row_sum)
    assert call_rows(each, {"v": vectors}).arrays["row_sum"].to_pylist() == [None, 7, 11]


def batch_sum(v: np.ndarray) -> np.ndarray:
    assert v.shape[1] == 2
    return v.sum(axis=1)


def row_sum(v: np.ndarray) -> float:
    assert v.shape == (2,)
    return float(v.sum())


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 7))
def test_one_bad_row_of_a_batch_costs_its_row_only(bad, batch_size):
    calls = []

    @udf(pa.int64(), batch=True, batch_size=batch_size)
    def f(at: list[int], is_bad: list[bool]) -> list[int]:
        calls.append(len(at))
        if any(is_bad):
            raise ValueError("bad row")
        return at

    outcome = call_rows(f, {"at": pa.array(range(len(bad)), pa.int64()), "is_bad": pa.array(bad, pa.bool_())})
    assert outcome.failed.tolist() == bad
    assert outcome.arrays["f"].to_pylist() == [None if b else at for at, b in enumerate(bad)]
    assert [error.row_index for error in outcome.errors] == list(np.flatnonzero(bad))
    assert max(calls, default=0) <= batch_size


def test_interrupts_are_not_taken_for_bad_rows():
    def stop(x):
        raise KeyboardInterrupt

    for batch in (False, True):
        with pytest.raises(KeyboardInterrupt):
            call_rows(udf(pa.int64(), batch=batch)(stop), {"x": pa.array([1])})


def test_pictures_come_decoded_and_a_broken_one_costs_its_row():
    @udf({"width": pa.int32(), "red": pa.float32()})
    def look(image: PIL.Image.Image, image_again: np.ndarray) -> tuple[int, float]:
        return image.width, float(image_again[..., 0].mean())

    pictures = pa.array([png(), b"no picture", None, png((5, 5), (7, 0, 0))], pa.large_binary())
    outcome = call_rows(look, {"image": pictures, "image_again": pictures})
    assert outcome.arrays["width"].to_pylist() == [4, None, None, 5]
    assert outcome.arrays["red"].to_pylist() == [255, None, None, 7]
    assert [(error.row_index, error.error) for error in outcome.errors] == [(1, "MediaError")]


def test_pictures_come_as_lists_in_batches_without_the_broken_ones():
    seen = []

    @udf(pa.int32(), batch=True)
    def width(image: list[PIL.Image.Image], name: list[str]) -> list[int]:
        seen.append(name)
        return [one.width for one in image]

    pictures = pa.array([png(), b"no picture", None, png((5, 5))], pa.large_binary())
    outcome = call_rows(width, {"image": pictures, "name": pa.array(list("abcd"))})
    assert outcome.arrays["width"].to_pylist() == [4, None, None, 5]
    assert outcome.failed.tolist() == [False, True, False, False]
    assert seen == [["a", "d"]]


def test_handles_read_what_is_asked_of_them():
    @udf(pa.string())
    def f(image: lh.Image, caption: lh.Text) -> str:
        return f"{image.info.width_px} {image.nbytes} {caption.text()}"

    pictures = pa.array([png(), b"no picture"], pa.large_binary())
    outcome = call_rows(f, {"image": pictures, "caption": pa.array(["a", "b"], pa.large_string())})
    assert outcome.arrays["f"].to_pylist() == [f"4 {len(png())} a", None]
    assert [error.error for error in outcome.errors] == ["MediaError"]


def test_bytes_and_dictionary_columns_come_as_python_values():
    @udf(pa.string())
    def f(data: bytes, label: str) -> str:
        return f"{len(data)} {label}"

    labels = pa.array(["x", "y", "x"]).dictionary_encode()
    data = pa.array([b"a", b"bc", b""], pa.large_binary())
    assert call_rows(f, {"data": data, "label": labels}).arrays["f"].to_pylist() == ["1 x", "2 y", "0 x"]


def test_no_rows_give_no_values():
    for batch in (False, True):
        outcome = call_rows(udf(pa.int64(), batch=batch)(lambda x: x), {"x": pa.array([], pa.int64())})
        assert outcome.arrays["<lambda>"] == pa.array([], pa.int64())
        assert outcome.failed.shape == (0,)


def test_chunked_columns_are_taken_as_one():
    outcome = call_rows(udf(pa.int64())(lambda x: x), {"x": pa.chunked_array([[1], [2, 3]])})
    assert outcome.arrays["<lambda>"].to_pylist() == [1, 2, 3]


SCRIPT = """
import sys, cloudpickle, pyarrow as pa
from lakehouse.features.udfs.udf import udf
def helper(x):
    return x + 1
@udf(pa.int64())
class Add:
    def __init__(self, n):
        self.n = n
    def __call__(self, x: int) -> int:
        return helper(x) + self.n
made = Add(n=5)
made.function
sys.stdout.buffer.write(cloudpickle.dumps((made, made.code_hash)))
"""


def test_a_udf_of_a_script_travels_with_its_hash(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    sent = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ).stdout
    made, code_hash = cloudpickle.loads(sent)
    assert isinstance(made, UDF)
    assert made.code_hash == code_hash
    assert made._live == {}
    assert call_rows(made, {"x": pa.array([1])}).arrays["Add"].to_pylist() == [7]


def test_a_udf_of_a_module_travels_too():
    made = cloudpickle.loads(cloudpickle.dumps(area))
    assert (made(2, 3), made.code_hash) == (6, area.code_hash)


def test_a_python_row_costs_at_most_three_microseconds_over_plain_iteration():
    num_rows = 100_000
    values = list(range(num_rows))
    column = pa.array(values)
    double = udf(pa.int64())(lambda x: x + x)
    plain, ours = [], []
    for _ in range(5):
        start = time.process_time()
        pa.array([double.target(x) for x in values])
        plain.append(time.process_time() - start)
        start = time.process_time()
        call_rows(double, {"x": column})
        ours.append(time.process_time() - start)
    assert min(ours) - min(plain) <= 3e-6 * num_rows
