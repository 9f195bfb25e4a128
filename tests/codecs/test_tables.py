"""Models of rows beside the classifier of four numbers: records, columns of several types, and every task."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.codecs.base import RowAnswers
from serving.core.errors import InvalidInputError, MalformedRequestError, ServingError
from serving.core.tensors import NOT_FINITE, Tensors, strings, to_bytes
from tests.codecs.models import FEATURES, make_codec, read, same, spec, text

ROW = [5.1, 3.5, 1.4, 0.2]
RECORD = dict(zip(FEATURES, ROW, strict=True))


def body(data: Any) -> bytes:
    return json.dumps({"data": data}).encode()


def both(codec: Any, content: bytes) -> Tensors:
    """What a body means, which both decoders have to agree on."""
    fast, explained = codec.read_fast(content), codec._explain(content)
    assert fast is not None, "right bodies take the quick way"
    assert same(fast, explained)
    return explained


def refused(codec: Any, content: bytes, kind: type[ServingError] = InvalidInputError) -> ServingError:
    assert codec.read_fast(content) is None
    with pytest.raises(kind) as caught:
        codec._explain(content)
    return caught.value


def fields(error: ServingError) -> list[str]:
    return [detail.field for detail in error.details]


def adults(**changes: Any) -> Any:
    """A model that takes a tensor for each column: numbers, whole numbers, strings, and whether."""
    inputs = [
        spec("age", "float32", None, 1),
        spec("children", "int64", None),
        spec("city", "string", None, 1),
        spec("member", "bool", None, 1),
    ]
    return make_codec(
        **{
            "kind": "rows",
            "task": "classification",
            "scores": "p",
            "labels": ["no", "yes"],
            "inputs": inputs,
            "outputs": [spec("p", "float32", None, 2)],
        }
        | changes
    )


def numbers(width: int, dtype: str = "float32", **changes: Any) -> Any:
    """A regression of one matrix."""
    return make_codec(
        **{
            "kind": "rows",
            "task": "regression",
            "scores": "y",
            "inputs": [spec("x", dtype, None, width)],
            "outputs": [spec("y", "float32", None, 1)],
        }
        | changes
    )


# Records


def test_records_are_rows_by_name_in_any_order() -> None:
    codec = make_codec()
    lists = both(codec, body([ROW, ROW[::-1]]))
    records = [RECORD, dict(reversed(dict(zip(FEATURES, ROW[::-1], strict=True)).items()))]
    assert same(both(codec, body(records)), lists)
    for spaced in (b'{ "data" :\n\t[ {', b'{"data":[{'):
        assert same(both(codec, body(records).replace(b'{"data": [{', spaced)), lists)


@pytest.mark.parametrize(
    ("record", "field", "says"),
    [
        (dict.fromkeys(FEATURES[:3], 1), "data[0].petal width (cm)", "Field required"),
        (RECORD | {"more": 1}, "data[0].more", "Extra inputs"),
        (RECORD | {FEATURES[1]: "x"}, "data[0].sepal width (cm)", "valid number"),
        (RECORD | {FEATURES[1]: 1e39}, "data[0].sepal width (cm)", "less than or equal"),
        (RECORD | {FEATURES[1]: None}, "data[0].sepal width (cm)", "valid number"),
        (RECORD | {FEATURES[1]: float("nan")}, "data[0].sepal width (cm)", "finite number"),
    ],
)
def test_what_is_wrong_with_a_record_is_named(record: Any, field: str, says: str) -> None:
    error = refused(make_codec(), body([record]))
    assert fields(error) == [field]
    assert says in error.message


def test_lists_and_records_are_not_mixed() -> None:
    for data in ([RECORD, ROW], [ROW, RECORD]):
        assert fields(refused(make_codec(), body(data)))[0].startswith("data[1]")


def test_as_many_records_as_lists_are_allowed() -> None:
    codec = make_codec({"max_rows": 3})
    assert len(both(codec, body([RECORD] * 3))["features"]) == 3
    assert "at most 3 items" in refused(codec, body([RECORD] * 4)).message


def test_many_records_that_can_only_be_wrong_are_refused_before_they_are_decoded() -> None:
    codec = make_codec()
    codec._decode_records = codec._records = None
    content = b'{"data": [' + b'{"a":[]},' * 1_000_000 + b"{}]}"
    assert codec.read_fast(content) is None
    with pytest.raises(InvalidInputError, match="more lists or values than 1024 rows of 4 numbers have"):
        codec._explain(content)


_values = st.one_of(
    st.floats(-1e30, 1e30), st.integers(-(2**70), 2**70), st.booleans(), st.none(), st.text(max_size=4), st.just([])
)
_names = st.sampled_from([*FEATURES, "age", "children", "city", "member", "data", ""])
_record = st.dictionaries(_names, _values, max_size=6)
_right = st.fixed_dictionaries(
    {"age": st.floats(-1e30, 1e30), "children": st.integers(-9, 2**62), "city": st.text(), "member": st.booleans()}
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(_record, _right, st.fixed_dictionaries(dict.fromkeys(FEATURES, _values))), max_size=4))
def test_the_quick_decoder_agrees_about_records_or_leaves_them(records: list[Any]) -> None:
    for codec in (make_codec({"max_rows": 3}), adults()):
        content = body(records)
        fast = codec.read_fast(content)
        try:
            explained = codec._explain(content)
        except ServingError:
            assert fast is None
        else:
            assert fast is None or same(fast, explained)


# Columns of several types


@settings(max_examples=200, deadline=None)
@given(st.lists(_right, min_size=1, max_size=4))
def test_right_records_take_the_quick_way_into_one_tensor_for_each_column(records: list[Any]) -> None:
    tensors = both(adults(), body(records))
    assert {name: (array.dtype, array.shape) for name, array in tensors.items()} == {
        "age": (np.float32, (len(records), 1)),
        "children": (np.int64, (len(records),)),
        "city": (object, (len(records), 1)),
        "member": (bool, (len(records), 1)),
    }
    assert tensors["city"].ravel().tolist() == [record["city"] for record in records]
    assert tensors["children"].tolist() == [record["children"] for record in records]
    assert tensors["member"].ravel().tolist() == [record["member"] for record in records]
    assert tensors["age"].ravel().tolist() == np.float32([record["age"] for record in records]).tolist()


def test_columns_of_several_types_may_be_lists_too() -> None:
    codec = adults()
    record = {"age": 31, "children": 2, "city": "Zürich 😀", "member": True}
    assert same(both(codec, body([list(record.values())])), both(codec, body([record])))
    codec.signature.check(codec.tensors(both(codec, body([record])))[0], allow_nan=False)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (["x", 2, "Paris", True], "data[0][0]"),
        ([1, 2.5, "Paris", True], "data[0][1]"),
        ([1, True, "Paris", True], "data[0][1]"),
        ([1, "2", "Paris", True], "data[0][1]"),
        ([1, 2**63, "Paris", True], "data[0][1]"),
        ([1, -(2**63) - 1, "Paris", True], "data[0][1]"),
        ([1, 2, 3, True], "data[0][2]"),
        ([1, 2, None, True], "data[0][2]"),
        ([1, 2, ["Paris"], True], "data[0][2]"),
        ([1, 2, "Paris", 1], "data[0][3]"),
        ([1, 2, "Paris", "true"], "data[0][3]"),
        ([1, 2, "Paris"], "data[0]"),
    ],
)
def test_a_value_of_another_type_is_named(row: list[Any], field: str) -> None:
    assert fields(refused(adults(), body([row])))[0].startswith(field)


def test_strings_may_have_any_signs_in_them() -> None:
    codec = adults()
    city = '[{"data":,' * 30_000
    assert both(codec, body([[1, 2, city, True]]))["city"].tolist() == [[city]]
    wrong = refused(codec, body([[1, 2, city, True], [1, 2, city]]))
    assert wrong.message.startswith("data[1]: ")


def test_a_large_body_of_strings_is_judged_by_its_first_fault() -> None:
    codec = adults()
    error = refused(codec, body([["x"] * 4] * 20_000))
    assert len(error.details) == 1
    assert "secret" not in refused(codec, body([[1, 2, 3, "secret" * 20_000]])).message


def test_text_that_is_not_unicode_is_malformed() -> None:
    for content in (body([[1, 2, "x", True]]).replace(b"x", b"\xff"), b'{"data": [[1, 2, "\\ud800", true]]}'):
        refused(adults(), content, MalformedRequestError)


@pytest.mark.parametrize("number", ["3", "3.0", "3e0", "30e-1", "-0.0", "9007199254740993"])
def test_whole_numbers_may_be_written_with_a_point(number: str) -> None:
    codec = numbers(1, "int64")
    content = f'{{"data": [[{number}]]}}'.encode()
    explained = codec._explain(content)["x"]
    assert explained.tolist() == [[int(float(number)) if "." in number or "e" in number else int(number)]]
    fast = codec.read_fast(content)
    assert fast is None or same(fast, {"x": explained})


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_whole_numbers_are_bounded_by_their_dtype(dtype: str) -> None:
    codec, info = numbers(1, dtype), np.iinfo(dtype)
    for value in (int(info.min), int(info.max)):
        found = codec._explain(body([[value]]))["x"]
        assert (found.dtype.name, found.tolist()) == (dtype, [[value]])
        fast = codec.read_fast(body([[value]]))
        assert fast is None or same(fast, {"x": found})
    for value in (int(info.min) - 1, int(info.max) + 1, 0.5, 1e300):
        assert fields(refused(codec, body([[value]]))) == ["data[0][0]"]


@pytest.mark.parametrize(
    ("dtype", "most"), [("float16", 65504.0), ("float32", 3.4028234663852886e38), ("float64", 1.7e308)]
)
def test_numbers_are_bounded_by_their_dtype(dtype: str, most: float) -> None:
    codec = numbers(1, dtype)
    assert both(codec, body([[most], [-most]]))["x"].dtype.name == dtype
    if dtype != "float64":
        assert fields(refused(codec, body([[most * 1.001]]))) == ["data[0][0]"]


def test_a_wide_table_is_read_quickly_and_explained() -> None:
    codec = numbers(500)
    assert both(codec, body([list(range(500))] * 2))["x"].shape == (2, 500)
    assert fields(refused(codec, body([list(range(499))]))) == ["data[0]"]
    assert fields(refused(codec, body([[*range(499), "x"]]))) == ["data[0][499]"]
    record = {f"x_{index}": index for index in reversed(range(500))}
    assert same(both(codec, body([record])), both(codec, body([list(range(500))])))


def test_columns_without_names_are_numbered() -> None:
    assert [column.name for column in numbers(2).columns] == ["x_0", "x_1"]
    assert [column.name for column in numbers(1).columns] == ["x"]
    assert [column.name for column in adults().columns] == ["age", "children", "city", "member"]
    assert [column.name for column in make_codec().columns] == FEATURES


def test_a_matrix_of_any_width_is_as_wide_as_its_names_are_many() -> None:
    codec = numbers(2, inputs=[spec("x", "float32", None, None)], feature_names=["a", "b", "c"])
    assert both(codec, body([[1, 2, 3]]))["x"].tolist() == [[1, 2, 3]]


# Missing values


def test_null_is_nan_where_the_model_takes_missing_values_and_comes_back_as_null() -> None:
    codec = numbers(2, allow_nan=True)
    tensors = both(codec, body([[1, None], [None, 2]]))
    assert np.isnan(tensors["x"]).tolist() == [[False, True], [True, False]]
    assert json.loads(codec.answer({"y": np.array([[1.5], [np.nan]], np.float32)}, tensors)) == {
        "prediction": [1.5, None]
    }
    codec.signature.check(tensors, allow_nan=True)
    assert "finite" in refused(codec, b'{"data": [[NaN, 1]]}').message


def test_null_is_refused_elsewhere() -> None:
    assert fields(refused(numbers(2), body([[1, None]]))) == ["data[0][1]"]


def test_missing_values_are_of_numbers_only() -> None:
    codec = adults(allow_nan=True)
    assert np.isnan(both(codec, body([[None, 2, "Paris", True]]))["age"]).all()
    for row, field in (([1, None, "Paris", True], "data[0][1]"), ([1, 2, None, True], "data[0][2]")):
        assert fields(refused(codec, body([row])))[0].startswith(field)


# Answers


def test_a_regression_of_one_number_answers_numbers() -> None:
    for shape in ((None, 1), (None,)):
        codec = numbers(2, outputs=[spec("y", "float32", *shape)])
        values = np.array([1.5, -2.0], np.float32).reshape([2, *shape[1:]])
        assert codec.answer({"y": values}, None) == b'{"prediction":[1.5,-2.0]}'
        assert codec.row_answers({"y": values}) == RowAnswers(["1.5", "-2.0"], [None] * 2, [None] * 2)
    assert not codec.has_labels


def test_a_regression_of_several_numbers_answers_lists() -> None:
    codec = numbers(2, outputs=[spec("y", "float32", None, 2)])
    values = {"y": np.array([[1.5, 2.5], [0.25, 4]], np.float32)}
    assert codec.answer(values, None) == b'{"prediction":[[1.5,2.5],[0.25,4.0]]}'
    assert codec.row_answers(values) == RowAnswers(["[1.5,2.5]", "[0.25,4.0]"], [None] * 2, [None] * 2)


def test_a_regression_may_answer_a_matrix_for_each_row() -> None:
    codec = numbers(2, outputs=[spec("boxes", "float32", None, 2, 2)], scores="boxes")
    values = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    assert json.loads(codec.answer({"boxes": values}, None)) == {"prediction": values.tolist()}
    values[1, 0, 1] = np.inf
    with pytest.raises(InvalidInputError, match=r"data\[1\]"):
        codec.answer({"boxes": values}, None)


def test_raw_outputs_are_answered_by_name() -> None:
    outputs = [spec("a/b.c", "float32", None, 2), spec("names", "string", None)]
    codec = numbers(2, task="raw", outputs=outputs, scores="")
    values = {"a/b.c": np.array([[1, 2], [3, 4]], np.float32), "names": text("x", "y")}
    assert json.loads(codec.answer(values, None)) == {"outputs": {"a/b.c": [[1, 2], [3, 4]], "names": ["x", "y"]}}
    assert [json.loads(text) for text in codec.row_answers(values).predictions] == [
        {"a/b.c": [1, 2], "names": "x"},
        {"a/b.c": [3, 4], "names": "y"},
    ]


@pytest.mark.parametrize("row", [0, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("shape", [(None,), (None, 1), (None, 3)])
@pytest.mark.parametrize("task", ["regression", "raw"])
def test_outputs_that_are_not_finite_name_their_row(task: str, shape: Any, value: float, row: int) -> None:
    codec = numbers(2, task=task, outputs=[spec("y", "float32", *shape)])
    values = np.ones([3, *shape[1:]], np.float32)
    values[row] = value
    with pytest.raises(InvalidInputError) as caught:
        codec.answer({"y": values}, None)
    assert caught.value.message == f"data[{row}]: {NOT_FINITE}"
    answers = codec.row_answers({"y": values})
    assert [error is not None for error in answers.errors] == [index == row for index in range(3)]
    assert [text is None for text in answers.predictions] == [index == row for index in range(3)]


def test_infinities_that_cancel_each_other_out_are_seen() -> None:
    codec = numbers(2, outputs=[spec("y", "float32", None, 2)])
    with pytest.raises(InvalidInputError, match=r"data\[1\]"):
        codec.answer({"y": np.array([[1, 2], [np.inf, -np.inf]], np.float32)}, None)


def test_finite_numbers_whose_sum_is_not_are_answered() -> None:
    codec = numbers(2, outputs=[spec("y", "float64", None, 2)])
    values = {"y": np.full((2, 2), 1.7e308)}
    assert json.loads(codec.answer(values, None)) == {"prediction": values["y"].tolist()}


def test_the_most_probable_class_is_the_label() -> None:
    codec = make_codec()
    values = {"probabilities": np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)}
    assert codec.label(values, None) == b'{"prediction":["versicolor","setosa"]}'
    assert codec.row_answers(values).labels == ["versicolor", "setosa"]
    assert codec.most_probable(values) == ["versicolor", "setosa"]
    with pytest.raises(InvalidInputError, match=r"data\[0\]"):
        codec.label({"probabilities": np.full((1, 3), np.nan, np.float32)}, None)


def test_two_classes_of_one_score_are_answered_as_two_probabilities() -> None:
    for shape in ((None, 1), (None,)):
        codec = make_codec(
            labels=["no", "yes"], activation="sigmoid", outputs=[spec("probabilities", "float32", *shape)]
        )
        values = {"probabilities": np.array([0.0, 2.0], np.float32).reshape([2, *shape[1:]])}
        (even, odd) = json.loads(codec.answer(values, None))["prediction"]
        assert even == [0.5, 0.5]
        assert odd == pytest.approx([1 - 0.880797, 0.880797], abs=1e-6)
        assert codec.most_probable(values) == ["no", "yes"]


def test_several_classes_may_be_right_at_once() -> None:
    codec = make_codec(labels=["a", "b", "c"], multilabel=True, activation="sigmoid")
    values = {"probabilities": np.array([[3, -3, 3], [-3, -3, -3]], np.float32)}
    assert json.loads(codec.label(values, None)) == {"prediction": [["a", "c"], []]}
    assert codec.row_answers(values).labels == ['["a","c"]', "[]"]
    assert codec.protocol_specs() == codec.signature.outputs, "no label of one class"
    assert codec.protocol_outputs(values) is values


# Jobs, rows of a database, samples and the standard protocols


def test_a_request_outlives_its_process_as_a_job() -> None:
    codec = adults()
    tensors = both(codec, body([[1.5, 2, "Paris", True], [2.5, 3, "", False]]))
    payload, parameters = codec.dump(tensors)
    assert json.loads(json.dumps(parameters)) == parameters
    assert same(codec.load(payload, parameters), tensors)


@pytest.mark.parametrize("parameters", [{}, {"v": 1}])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(15), b"\xff" * 40])
def test_a_payload_that_is_none_is_an_error_of_ours(payload: bytes, parameters: dict[str, Any]) -> None:
    with pytest.raises(ServingError):
        make_codec().load(payload, parameters)


def test_jobs_of_the_version_before_are_rows_of_float32() -> None:
    rows = np.array([ROW, ROW[::-1]], "<f4")
    assert same(make_codec().load(rows.tobytes(), {}), {"features": rows})
    with pytest.raises(InvalidInputError):
        make_codec().load(np.full(4, np.nan, "<f4").tobytes(), {})


def test_a_payload_of_another_model_is_refused() -> None:
    payload = to_bytes({"other": np.zeros((1, 4), np.float32)})
    with pytest.raises(InvalidInputError, match="the input features is missing; the model has features"):
        make_codec().load(payload, {"v": 1})


def test_rows_of_a_database_are_lists_or_records() -> None:
    codec = adults()
    values = [31, 2, "Paris", True]
    record = dict(zip(["member", "city", "children", "age"], values[::-1], strict=True))
    expected = both(codec, body([values]))
    for row in (values, record):
        assert same(codec.read_row(json.dumps(row), None), expected)
        assert codec.check_row(json.dumps(row)) is None


def test_a_whole_number_of_a_row_is_written_as_in_a_body() -> None:
    codec = adults()
    row = '[31, 2.0, "Paris", true]'
    assert codec.check_row(row) is None
    assert same(codec.read_row(row, None), both(codec, body([[31, 2, "Paris", True]])))
    for wrong in ('[31, 2.5, "Paris", true]', f"{row},{row}", f'{row}],"data":[{row}', '[31, 2.0, "Paris", true'):
        assert codec.check_row(wrong) is not None


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("[1, 2, 3]", "values"),
        ("[1, 2, 3, null]", "values[3]"),
        ("[1, 2, 3, 1e39]", "values[3]"),
        ("[1, 2, 3, NaN]", ""),
        ('{"a": 1}', "values"),
        ("{}", "values"),
        ("5", "values"),
        ("", ""),
        ("\ud800", ""),
        ("[" * 100_000, "values[0]"),
        (' {"sepal length (cm)": 1, "sepal width (cm)": "x"}', "values.sepal width (cm)"),
    ],
)
def test_what_is_wrong_with_a_row_of_a_database_is_named(row: str, field: str) -> None:
    codec = make_codec()
    with pytest.raises(InvalidInputError) as caught:
        codec.read_row(row, None)
    assert caught.value.message.startswith("values: a list of 4 finite numbers is required")
    detail = codec.check_row(row)
    assert detail is not None
    assert [each.field for each in detail.details] == ([] if field == "" else [field])
    tensors, errors = codec.read_rows([json.dumps(ROW), row, json.dumps(RECORD)])
    assert [error is not None for error in errors] == [False, True, False]
    assert tensors["features"].tolist() == np.float32([ROW, [0] * 4, ROW]).tolist()


def test_the_sample_is_what_was_stored_and_can_be_sent_as_it_is_shown(tmp_path: Any) -> None:
    sample = {"age": np.float32([[31]]), "children": np.int64([2]), "city": strings(["Paris"], (1, 1)),
              "member": np.array([[True]])}  # fmt: skip
    (tmp_path / "sample.tensors").write_bytes(to_bytes(sample))
    codec = adults(path=tmp_path)
    assert same(codec.sample(), sample)
    assert codec.sample_json() == {"data": [{"age": 31, "children": 2, "city": "Paris", "member": True}]}
    assert same(both(codec, json.dumps(codec.sample_json()).encode()), sample)
    for plain in (make_codec(), numbers(3), adults(), numbers(2, "int8")):
        assert same(both(plain, json.dumps(plain.sample_json()).encode()), plain.sample())


def test_missing_values_of_the_sample_are_shown_as_null(tmp_path: Any) -> None:
    (tmp_path / "sample.tensors").write_bytes(to_bytes({"x": np.array([[1, np.nan]], np.float32)}))
    codec = numbers(2, allow_nan=True, path=tmp_path)
    assert json.dumps(codec.sample_json()) == '{"data": [[1.0, null]]}'


def test_code_may_give_fields_as_python_values() -> None:
    codec = make_codec()
    expected = both(codec, body([ROW]))
    for data in ([ROW], np.array([ROW]), [tuple(ROW)], [RECORD]):
        assert same(codec.from_fields({"data": data}), expected)
    for wrong in ({}, {"data": [[1]]}, {"data": [ROW], "more": 1}, {"rows": [ROW]}):
        with pytest.raises(InvalidInputError, match="the fields are not as in"):
            codec.from_fields(wrong)


def test_the_protocols_are_offered_the_inputs_of_the_graph() -> None:
    codec = adults()
    assert codec.offered() == (codec.signature.inputs,)
    tensors = both(codec, body([[1, 2, "Paris", True]] * 2))
    assert codec.from_offered(tensors) == (tensors, "rows=2")
    outputs = {"p": np.array([[0.25, 0.75]], np.float32)}
    assert [each.name for each in codec.protocol_specs()] == ["p", "label"]
    assert codec.protocol_outputs(outputs)["label"].tolist() == ["yes"]


def test_a_graph_that_has_an_output_called_label_keeps_it() -> None:
    codec = make_codec(outputs=[spec("probabilities", "float32", None, 3), spec("label", "int64", None)])
    outputs = {"probabilities": np.float32([[1, 0, 0]]), "label": np.int64([0])}
    assert codec.protocol_specs() == codec.signature.outputs
    assert codec.protocol_outputs(outputs) is outputs


def test_the_body_may_be_declared_as_json_or_not_at_all() -> None:
    codec = make_codec()
    for kind in ("application/json", "application/json; charset=utf-8", "", None):
        assert same(read(codec, body([ROW]), kind), both(codec, body([ROW])))


def test_an_empty_body_is_told_what_to_send() -> None:
    with pytest.raises(MalformedRequestError) as caught:
        read(make_codec(), b"")
    assert caught.value.message == 'the body is empty; send {"data":[[0.0,0.0,0.0,0.0]]}'


def test_the_document_describes_rows_and_records_and_each_answer() -> None:
    operation = adults().operation()
    schema = operation.content["application/json"]["schema"]
    row, record = (rows["items"] for rows in schema["properties"]["data"]["anyOf"])
    assert operation.row == {"anyOf": [row, record]}
    assert [each["type"] for each in row["prefixItems"]] == ["number", "integer", "string", "boolean"]
    assert list(record["properties"]) == record["required"] == ["age", "children", "city", "member"]
    assert operation.label is not None
    assert numbers(2).operation().label is None
    assert numbers(2).operation().answer["properties"]["prediction"]["items"] == {"type": "number"}
    nullable = numbers(2, allow_nan=True).operation().content["application/json"]["schema"]
    assert nullable["properties"]["data"]["anyOf"][0]["items"]["items"]["type"] == ["number", "null"]
    msgspec.json.encode(operation._asdict())


def test_the_name_of_an_unknown_column_is_shortened() -> None:
    for row in (json.dumps({"x" * 100_000: 1}), json.dumps(RECORD | {"x" * 100_000: 1})):
        with pytest.raises(InvalidInputError) as caught:
            make_codec().read_row(row, None)
        assert len(caught.value.message) < 250
        assert len(caught.value.details[0].message) < 200
