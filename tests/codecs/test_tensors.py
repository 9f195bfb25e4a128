"""Models of any tensors, from the body of a request to what the engine takes, and from its outputs to the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codecs.base import RowAnswers
from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError, UnsupportedMediaTypeError
from serving.core.tensors import DTYPES, NOT_FINITE, strings, to_bytes
from tests.codecs.models import make_codec, read, same, spec


def towers(settings: dict[str, Any] | None = None, **changes: Any) -> Any:
    """A model of two inputs and two outputs."""
    values: dict[str, Any] = {
        "kind": "tensors",
        "inputs": [spec("user", "float32", None, 2), spec("tags", "string", None, None)],
        "outputs": [spec("score", "float32", None, 1), spec("a/b.c", "int64", None)],
    }
    return make_codec(settings, **values | changes)


def one(dtype: str, *shape: int | None, **changes: Any) -> Any:
    return make_codec(
        **{
            "kind": "tensors",
            "inputs": [spec("x", dtype, *shape)],
            "outputs": [spec("y", "float32", None)],
            "batching": "free" if shape[:1] == (None,) else "none",
        }
        | changes
    )


RIGHT = {"user": [[1, 2], [3, 4.5]], "tags": [["a", "é"], ["", "😀"]]}


def body(inputs: Any, **more: Any) -> bytes:
    return json.dumps({"inputs": inputs} | more).encode()


def refused(codec: Any, content: bytes, kind: type[ServingError] = InvalidInputError) -> ServingError:
    assert codec.read_fast(content) is None
    with pytest.raises(kind) as caught:
        read(codec, content)
    return caught.value


def test_inputs_are_nested_lists_by_name() -> None:
    codec = towers()
    expected = {
        "user": np.array([[1, 2], [3, 4.5]], np.float32),
        "tags": strings(["a", "é", "", "😀"], (2, 2)),
    }
    for content in (body(RIGHT), body(dict(reversed(RIGHT.items())))):
        found = codec.read_fast(content)
        assert same(found, expected)
        assert same(read(codec, content), expected)
    assert codec.tensors(expected) == (expected, "rows=2")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"user": [[1, 2]]}, "inputs: Object missing required field `tags`"),
        (RIGHT | {"more": 1}, "more"),
        ({}, "missing required field `user`"),
        ([], "inputs: Expected `object`"),
        (None, "inputs: Expected `object`"),
        ("x", "inputs: Expected `object`"),
        (RIGHT | {"user": [[1, 2], [3]]}, "inputs.user: the lists are not equally long"),
        (RIGHT | {"tags": [["a"], ["b", "c"]]}, "inputs.tags: the lists are not equally long"),
        (RIGHT | {"user": [[1, 2, 3]] * 2}, "user: the shape [2, 3] is not [N, 2]"),
        (RIGHT | {"user": [[1, 2]]}, "tags: 2 rows, where other inputs have 1"),
        (RIGHT | {"user": [1, 2]}, "inputs.user[0]: Expected `array`, got `int`"),
        (RIGHT | {"user": 5}, "inputs.user: Expected `array`, got `int`"),
        (RIGHT | {"user": [[[1], [2]]] * 2}, "inputs.user[0][0]: Expected `float`, got `array`"),
        (RIGHT | {"user": [["1", 2]] * 2}, "inputs.user[0][0]: Expected `float`, got `str`"),
        (RIGHT | {"user": [[True, 2]] * 2}, "inputs.user[0][0]: Expected `float`, got `bool`"),
        (RIGHT | {"user": [[1, None]] * 2}, "inputs.user[0][1]: Expected `float`, got `null`"),
        (RIGHT | {"user": [[1e39, 2]] * 2}, "inputs.user[0][0]: Expected `float` <= 3.4028234663852886e+38"),
        (RIGHT | {"tags": [[1], [2]]}, "inputs.tags[0][0]: Expected `str`, got `int`"),
        (RIGHT | {"tags": [[None], ["x"]]}, "inputs.tags[0][0]: Expected `str`, got `null`"),
        ({"user": [], "tags": []}, "inputs: 1 to 256 rows are allowed in a request, not 0"),
        ({"user": [[1, 2]] * 257, "tags": [["a"]] * 257}, "inputs: 1 to 256 rows are allowed in a request, not 257"),
    ],
)
def test_what_is_wrong_is_named(inputs: Any, says: str) -> None:
    assert says in refused(towers(), body(inputs)).message


SECRET = "hunter2-hunter2"  # noqa: S105 - it stands for what a caller would not like to see in a log


@pytest.mark.parametrize(
    "content",
    [body(SECRET), body({"user": SECRET}), body({"user": [[SECRET]]}), SECRET.encode(), json.dumps(SECRET).encode()],
)
def test_messages_never_repeat_the_input(content: bytes) -> None:
    error = refused(towers(), content, ServingError)
    assert SECRET not in error.message + str(error.details)


@pytest.mark.parametrize("content", [body({"x" * 100_000: 1}), body(RIGHT, **{"x" * 100_000: 1})])
def test_the_name_of_an_unknown_field_is_shortened(content: bytes) -> None:
    error = refused(towers(), content)
    assert len(error.message) < 200
    assert error.details[0].field == ("" if b"user" in content else "inputs")
    assert len(error.details[0].message) < 200


def test_other_fields_beside_the_inputs_are_refused() -> None:
    assert "more" in refused(towers(), body(RIGHT, more=1)).message


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"nonsense", b'{"inputs": ', body(RIGHT) + b"x"])
def test_what_is_not_json_is_malformed(content: bytes) -> None:
    refused(towers(), content, MalformedRequestError)


def test_an_empty_body_is_told_what_to_send() -> None:
    assert refused(towers(), b"", MalformedRequestError).message == (
        'the body is empty; send {"inputs":{"user":[[0.0,0.0]],"tags":[[""]]}}'
    )


@pytest.mark.parametrize(
    "content", [b'{"inputs": {"x": [NaN]}}', b'{"inputs": {"x": [Infinity]}}', b'{"inputs": {"x": [1e999]}}']
)
def test_numbers_are_finite(content: bytes) -> None:
    refused(one("float32", None), content, ServingError)


def test_null_is_nan_where_the_model_takes_missing_values() -> None:
    codec = one("float32", None, allow_nan=True)
    assert np.isnan(codec.read_fast(body({"x": [None, 1]}))["x"]).tolist() == [True, False]
    assert codec.answer({"y": np.float32([np.nan, 1])}, None) == b'{"outputs":{"y":[null,1.0]}}'


@pytest.mark.parametrize("dtype", [name for name, known in DTYPES.items() if known.numpy.kind in "iu"])
def test_whole_numbers_are_bounded_by_their_dtype(dtype: str) -> None:
    codec, info = one(dtype, None), np.iinfo(dtype)
    for value in (int(info.min), int(info.max)):
        found = codec.read_fast(body({"x": [value]}))["x"]
        assert (found.dtype.name, found.tolist()) == (dtype, [value])
    for wrong in (int(info.min) - 1, int(info.max) + 1, 2**70, 0.5, True, "1"):
        refused(codec, body({"x": [wrong]}))


def test_whether_is_true_or_false_and_no_number() -> None:
    codec = one("bool", None)
    assert codec.read_fast(body({"x": [True, False]}))["x"].tolist() == [True, False]
    for wrong in (0, 1, "true", None):
        refused(codec, body({"x": [wrong]}))


@pytest.mark.parametrize("value", [0, 1.5])
def test_a_scalar_is_a_value_without_a_list(value: float) -> None:
    codec = one("float32")
    found = codec.read_fast(body({"x": value}))["x"]
    assert (found.shape, found.item()) == ((), value)
    assert codec.tensors({"x": found}) == ({"x": found}, "rows=1")
    refused(codec, body({"x": [value]}))


def test_a_scalar_may_be_a_string() -> None:
    found = one("string").read_fast(body({"x": "a"}))["x"]
    assert (found.shape, found.item()) == ((), "a")


def test_tensors_without_rows_in_common_are_taken_whole() -> None:
    """As of a model with recurrent state: the batch is its second dimension, and there is a scalar."""
    codec = make_codec(
        kind="tensors",
        batching="none",
        inputs=[spec("input", "float32", None, None), spec("state", "float32", 2, None, 3), spec("sr", "int64")],
        outputs=[spec("output", "float32", None, 1), spec("stateN", "float32", 2, None, 3)],
    )
    inputs = {"input": [[0.5] * 4], "state": [[[0.0] * 3]] * 2, "sr": 16000}
    tensors = codec.read_fast(body(inputs))
    assert {name: array.shape for name, array in tensors.items()} == {"input": (1, 4), "state": (2, 1, 3), "sr": ()}
    assert codec.tensors(tensors)[1] == "rows=1"
    outputs = {"output": np.float32([[0.5]]), "stateN": np.zeros((2, 1, 3), np.float32)}
    assert json.loads(codec.answer(outputs, tensors)) == {
        "outputs": {"output": [[0.5]], "stateN": [[[0.0] * 3], [[0.0] * 3]]}
    }
    (text,) = codec.row_answers(outputs).predictions
    assert json.loads(text) == {"output": [[0.5]], "stateN": [[[0.0] * 3], [[0.0] * 3]]}
    assert same(codec.read_row(json.dumps(inputs), None), tensors)
    assert same(codec.load(*codec.dump(tensors)), tensors)


@pytest.mark.parametrize("shape", [(None, 3), (None, None), (None, 0), (None, 2, 0)])
def test_empty_lists_have_the_shape_that_fits(shape: tuple[int | None, ...]) -> None:
    codec = one("float32", *shape)
    inner = [] if len(shape) == 2 else [[], []]
    content = body({"x": [inner]})
    if 0 in shape or None in shape[1:]:
        assert codec.read_fast(content)["x"].shape == (1, *(0 if length is None else length for length in shape[1:]))
    else:
        refused(codec, content)
    refused(codec, body({"x": []}))


_dtypes = st.sampled_from([name for name in DTYPES if name != "bytes"])
_shapes = st.lists(st.integers(0, 3), max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    dtype, shape = draw(_dtypes), tuple(draw(_shapes))
    size = int(np.prod(shape))
    if dtype == "string":
        return strings(draw(st.lists(st.text(max_size=5), min_size=size, max_size=size)), shape)
    known = DTYPES[dtype].numpy
    if known.kind == "f":
        values: Any = st.floats(-60000, 60000, width=16 if dtype == "float16" else 32)
    elif known.kind == "b":
        values = st.booleans()
    else:
        values = st.integers(int(np.iinfo(known).min), int(np.iinfo(known).max))
    return np.array(draw(st.lists(values, min_size=size, max_size=size)), known).reshape(shape)


@settings(max_examples=300, deadline=None)
@given(arrays())
def test_what_is_written_as_nested_lists_is_read_as_it_was(array: np.ndarray[Any, Any]) -> None:
    dtype = "string" if array.dtype == object else array.dtype.name
    codec = one(dtype, *array.shape, batching="none")
    found = codec.read_fast(body({"x": array.tolist()}))
    assert found is not None
    assert same(found, {"x": array})
    assert same(codec.load(*codec.dump(found)), {"x": array})


_any = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["user", "tags", ""]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(_any | st.fixed_dictionaries({"user": _any, "tags": _any}))
def test_any_json_is_right_or_an_error_of_ours(inputs: Any) -> None:
    codec = towers()
    for content in (body(inputs), json.dumps(inputs).encode()):
        try:
            tensors = read(codec, content)
        except ServingError:
            continue
        codec.signature.check(tensors, allow_nan=False)
    try:
        codec.read_row(json.dumps(inputs), None)
    except ServingError as error:
        assert error.message.startswith(("values", "user", "tags", "inputs", "there"))  # noqa: PT017


@pytest.mark.parametrize("kind", ["text/csv", "multipart/form-data; boundary=x"])
def test_other_content_types_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match="send application/json"):
        read(towers(), body(RIGHT), kind)


# Answers


def test_outputs_are_answered_by_name() -> None:
    outputs = {"score": np.float32([[0.5], [1]]), "a/b.c": np.int64([1, 2])}
    assert towers().answer(outputs, None) == b'{"outputs":{"score":[[0.5],[1.0]],"a/b.c":[1,2]}}'
    expected = ['{"score":[0.5],"a/b.c":1}', '{"score":[1.0],"a/b.c":2}']
    assert towers().row_answers(outputs) == RowAnswers(expected, [None] * 2, [None] * 2)


def test_outputs_that_are_not_finite_name_their_row() -> None:
    outputs = {"score": np.float32([[0.5], [np.nan]]), "a/b.c": np.int64([1, 2])}
    with pytest.raises(InvalidInputError, match=rf"^inputs\[1\]: {NOT_FINITE}$"):
        towers().answer(outputs, None)
    assert [error is not None for error in towers().row_answers(outputs).errors] == [False, True]


def test_a_scalar_that_is_not_finite_is_refused() -> None:
    codec = make_codec(kind="tensors", batching="none", inputs=[spec("x", "float32")], outputs=[spec("y", "float32")])
    with pytest.raises(InvalidInputError):
        codec.answer({"y": np.float32(np.inf)[()] * np.ones((), np.float32)}, None)
    assert codec.row_answers({"y": np.array(np.inf, np.float32)}).errors[0] is not None
    assert codec.answer({"y": np.array(1, np.float32)}, None) == b'{"outputs":{"y":1.0}}'


def test_a_classifier_of_tensors_names_classes() -> None:
    codec = towers(task="classification", scores="score", labels=["no", "yes"], activation="sigmoid")
    outputs = {"score": np.float32([[-2], [2]]), "a/b.c": np.int64([1, 2])}
    assert codec.label(outputs, None) == b'{"prediction":["no","yes"]}'
    assert codec.row_answers(outputs).labels == ["no", "yes"]
    assert codec.protocol_outputs(outputs)["label"].tolist() == ["no", "yes"]
    assert [each.name for each in codec.protocol_specs()] == ["score", "a/b.c", "label"]


# Jobs, rows of a database and samples


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"user": np.zeros((1, 2), np.float32)},
        {"user": np.zeros((1, 2), np.float64), "tags": strings(["a"], (1, 1))},
        {"user": np.zeros((0, 2), np.float32), "tags": strings([], (0, 1))},
        {"user": np.full((1, 2), np.nan, np.float32), "tags": strings(["a"], (1, 1))},
    ],
)
def test_payloads_of_jobs_are_judged_again(tensors: Any) -> None:
    with pytest.raises(ServingError):
        towers().load(to_bytes(tensors), {"v": 1})


def test_a_row_of_a_database_is_one_row_of_each_tensor() -> None:
    codec = towers()
    tensors = codec.read_row('{"user": [1, 2], "tags": ["a", "b", "c"]}', None)
    assert same(tensors, {"user": np.float32([[1, 2]]), "tags": strings(["a", "b", "c"], (1, 3))})


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ('{"user": [1, 2]}', "values"),
        ('{"user": [1, "x"], "tags": []}', "values.user[1]"),
        ('{"user": [[1, 2]], "tags": ["a"]}', "values.user[0]"),
        ("[1, 2]", "values"),
        ("", ""),
        ("\ud800", ""),
        ("[" * 100_000, "values"),
        ('{"user": ' + "[" * 100_000, "values.user[0]"),
    ],
)
def test_what_is_wrong_with_a_row_of_a_database_is_named(row: str, field: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^values: an object of tensors is required: "):
        towers().read_row(row, None)
    fault = towers().check_row(row)
    assert fault.message.startswith("values: ")
    assert [each.field for each in fault.details] == ([] if field == "" else [field])
    assert towers().check_row('{"user": [1, 2], "tags": []}') is None


def test_the_sample_can_be_sent_as_it_is_shown(tmp_path: Path) -> None:
    sample = {"user": np.float32([[1, 2]]), "tags": strings(["a", "b"], (1, 2))}
    (tmp_path / "sample.tensors").write_bytes(to_bytes(sample))
    for codec in (towers(path=tmp_path), towers(), one("float16", None, 3, None), one("string"), one("bool", 2, 2)):
        shown = json.dumps(codec.sample_json()).encode()
        assert same(codec.read_fast(shown), codec.sample())
    assert same(towers(path=tmp_path).sample(), sample)


def test_the_document_has_the_shapes() -> None:
    schema = towers().operation().content["application/json"]["schema"]["properties"]["inputs"]
    assert schema["required"] == ["user", "tags"]
    assert schema["properties"]["user"]["items"] == {
        "minItems": 2,
        "maxItems": 2,
        "type": "array",
        "items": {"type": "number", "minimum": -3.4028234663852886e38, "maximum": 3.4028234663852886e38},
    }
    assert schema["properties"]["tags"]["items"]["items"] == {"type": "string"}
    assert towers().operation().label is None
