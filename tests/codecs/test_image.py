"""Images, from the body of a request to what the engine takes, and from its outputs to the answer."""

from __future__ import annotations

import asyncio
import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.codecs.image import ImageRequest
from serving.codecs.image_requests import read_image
from serving.core.errors import (
    ErrorDetail,
    InvalidImageError,
    InvalidInputError,
    MalformedRequestError,
    ModelError,
    ServingError,
    UnsupportedMediaTypeError,
)
from serving.core.tensors import NOT_FINITE, strings
from tests.codecs.models import make_codec, make_request, read, same, spec
from tests.http.bodies import bodies
from tests.pictures import encoded, huge_png, picture, pixels

PNG = encoded(picture(), "PNG")


def fields(error: ServingError) -> list[str]:
    return [detail.field for detail in error.details]


def form(*parts: tuple[str, bytes, bool]) -> tuple[bytes, str]:
    """A multipart body of (name, content, is it a file) and its content type."""
    body = b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n'
        % (name.encode(), b"; filename=f" if file else b"", content)
        for name, content, file in parts
    )
    return body + b"--edge--\r\n", "multipart/form-data; boundary=edge"


def read_parts(
    body: bytes, content_type: str | None, query: str = "", *, ranked: bool = True
) -> tuple[bytes, int | None]:
    """The file and `top_k` of a request."""
    return asyncio.run(read_image(make_request(body, content_type, query), ranked=ranked))


# Every pair of bits and every length of padding: base64 and base64url differ in two characters of 64.
CONTENTS = [bytes(range(256)), b"\xfb\xef\xbe\xff\xff", b"\xfb\xef\xbe\xff", b"\xfb\xef\xbe", b"a"]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("padded", [True, False])
def test_base64_in_both_alphabets_with_and_without_padding(content: bytes, encode: Any, padded: bool) -> None:
    text = encode(content).decode()
    text = text if padded else text.rstrip("=")
    assert read_parts(json.dumps({"image": text}).encode(), "application/json") == (content, None)


@pytest.mark.parametrize(
    "text", ["a", "abc!", "äöüß", "abcde", "data:image/png;base64,a", "\x00", "aa=a", "http://127.0.0.1/cat.jpg"]
)
def test_broken_base64(text: str) -> None:
    with pytest.raises(MalformedRequestError, match="not base64"):
        read_parts(json.dumps({"image": text}).encode(), "application/json")


@settings(max_examples=300, deadline=None)
@given(st.one_of(bodies, st.text().map(lambda text: json.dumps({"image": text}).encode())))
def test_any_json_is_an_image_or_an_error_of_ours(body: bytes) -> None:
    try:
        content, top_k = read_parts(body, "application/json")
    except ServingError:
        return
    assert content
    assert top_k is None or top_k >= 1


@settings(max_examples=200, deadline=None)
@given(
    st.binary() | st.binary().map(lambda inner: form(("image", inner, True))[0]), st.sampled_from(["edge", "other", ""])
)
def test_any_form_is_an_image_or_an_error_of_ours(body: bytes, boundary: str) -> None:
    try:
        content, _ = read_parts(body, f"multipart/form-data; boundary={boundary}")
    except ServingError:
        return
    assert content


IMAGE = ("image", b"\x89MAGE", True)


@pytest.mark.parametrize(
    ("body", "content_type", "query", "expected"),
    [
        (*form(IMAGE), "", (b"\x89MAGE", None)),
        (*form(IMAGE, ("top_k", b"3", False)), "", (b"\x89MAGE", 3)),
        (*form(("top_k", b"3", False), IMAGE), "", (b"\x89MAGE", 3)),
        (*form(IMAGE), "top_k=4", (b"\x89MAGE", 4)),
        (b"\x89MAGE", "image/png", "", (b"\x89MAGE", None)),
        (b"\x89MAGE", "IMAGE/PNG; x=y", "top_k=4", (b"\x89MAGE", 4)),
        (b"\x89MAGE", "image/anything", "other=1", (b"\x89MAGE", None)),
        (b'{"image": "iU1BR0U", "top_k": 3}', "application/json", "", (b"\x89MAGE", 3)),
        (b'{"image": "iU1BR0U", "top_k": 3}', "application/json; charset=utf-8", "", (b"\x89MAGE", 3)),
        (b'{"image": "iU1BR0U"}', "Application/JSON", "top_k=4", (b"\x89MAGE", 4)),
    ],
)
def test_an_image_and_its_top_k(body: bytes, content_type: str, query: str, expected: tuple[bytes, int | None]) -> None:
    assert read_parts(body, content_type, query) == expected


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "1.5", "1e3", "NaN"])
@pytest.mark.parametrize("place", ["query", "form", "json"])
def test_a_wrong_top_k_is_named_wherever_it_stands(place: str, text: str) -> None:
    body, content_type, query = b"\x89MAGE", "image/png", f"top_k={text}"
    if place == "form":
        body, content_type = form(IMAGE, ("top_k", text.encode(), False))
        query = ""
    elif place == "json":
        body, content_type, query = (
            b'{"image": "iU1BR0U", "top_k": %b}' % (text or '""').encode(),
            "application/json",
            "",
        )
    with pytest.raises(ServingError) as caught:
        read_parts(body, content_type, query)
    if isinstance(caught.value, InvalidInputError):
        assert fields(caught.value) == ["top_k"]
        assert "top_k" in caught.value.message
    else:
        assert place == "json", "only broken JSON is malformed"


@pytest.mark.parametrize(
    ("body", "content_type", "field"),
    [
        (*form(("top_k", b"3", False)), "image"),
        (*form(IMAGE, IMAGE), "image"),
        (*form(IMAGE, ("top_k", b"1", False), ("top_k", b"2", False)), "top_k"),
        (*form(), "image"),
        (*form(("picture", b"\x89MAGE", True)), "picture"),
        (*form(IMAGE, ("other", b"1", False)), "other"),
        (b"{}", "application/json", "image"),
        (b'{"image": ""}', "application/json", "image"),
        (b'{"image": 5}', "application/json", "image"),
        (b'{"image": null}', "application/json", "image"),
        (b'{"image": ["iU1BR0U"]}', "application/json", "image"),
        (b'{"image": "iU1BR0U", "url": "x"}', "application/json", "url"),
        (b'{"image": "iU1BR0U", "top_k": "3"}', "application/json", "top_k"),
        (b'{"image": "iU1BR0U", "top_k": true}', "application/json", "top_k"),
    ],
)
def test_missing_unknown_and_wrong_fields_are_named(body: bytes, content_type: str, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_parts(body, content_type)
    assert fields(caught.value) == [field]
    assert field in caught.value.message


WITH_TOP_K = [form(IMAGE, ("top_k", b"3", False)), (b'{"image": "iU1BR0U", "top_k": 3}', "application/json")]


@pytest.mark.parametrize(("body", "content_type"), WITH_TOP_K)
def test_top_k_may_be_given_once(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k is in the query and in the body"):
        read_parts(body, content_type, "top_k=3")


@pytest.mark.parametrize(("body", "content_type"), WITH_TOP_K)
def test_the_label_route_has_no_top_k_field(body: bytes, content_type: str) -> None:
    with pytest.raises(InvalidInputError, match="top_k"):
        read_parts(body, content_type, ranked=False)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "image/png"),
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"", "multipart/form-data; boundary=edge"),
        (b"x", "multipart/form-data"),
        (b"not a form", "multipart/form-data; boundary=edge"),
        form(("image", b"", True)),
        form(*[("top_k", b"1", False)] * 17),
    ],
    ids=["no image", "no json", "json", "no form", "no boundary", "form", "empty file", "many"],
)
def test_what_cannot_be_read_is_malformed(body: bytes, content_type: str) -> None:
    with pytest.raises((MalformedRequestError, InvalidInputError)) as caught:
        read_parts(body, content_type)
    assert len(caught.value.message) < 200


def test_the_name_of_an_unknown_form_field_is_not_repeated_at_any_length() -> None:
    with pytest.raises(ServingError) as caught:
        read_parts(*form(("x" * 50_000, b"1", False)))
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("kind", ["text/html", "application/pdf", "application/vnd.bentoml+pickle", "multipart/mixed"])
def test_other_content_types_name_those_there_are(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError, match=r"multipart/form-data.*image/\*.*application/json"):
        read_parts(b"x", kind)


def classifier(settings: dict[str, Any] | None = None, *, classes: int = 3, **image: Any) -> Any:
    """A classifier of pictures of 8×6 pixels as Keras' graphs take them, unless `image` says else."""
    image = {"width": 8, "height": 6} | image
    channels = 1 if image.get("channels") == "L" else 3
    shape = [image["height"], image["width"], channels]
    if image.get("layout") == "NCHW":
        shape = [channels, *shape[:2]]
    dtype = image.pop("dtype", "uint8")
    return make_codec(
        settings,
        kind="image",
        task="classification",
        scores="p",
        labels=[f"c{index}" for index in range(classes)],
        inputs=[spec("input/x", dtype, None, *shape)],
        outputs=[spec("p", "float32", None, classes)],
        image=image,
    )


def other(task: str, outputs: list[Any], **changes: Any) -> Any:
    """A model of images that does not classify."""
    return make_codec(
        **{
            "kind": "image",
            "task": task,
            "scores": outputs[0].name,
            "inputs": [spec("x", "uint8", None, 6, 8, 3)],
            "outputs": outputs,
            "image": {"width": 8, "height": 6},
        }
        | changes
    )


def resized(image: Image.Image, size: tuple[int, int] = (8, 6)) -> np.ndarray[Any, Any]:
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))


# What the engine takes


def test_a_picture_is_stretched_and_taken_as_it_is() -> None:
    codec = classifier()
    tensors, size = codec.tensors(ImageRequest(PNG, 1))
    assert size == f"pixels={48 * 64}"
    assert same(tensors, {"input/x": resized(picture())[np.newaxis]})
    codec.signature.check(tensors, allow_nan=False)


def test_pixels_are_scaled_normalised_and_laid_out_as_pytorch_does() -> None:
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    codec = classifier(dtype="float32", layout="NCHW", scale=1 / 255, mean=mean, deviation=deviation)
    tensors, _ = codec.tensors(ImageRequest(PNG, 1))
    expected = (resized(picture()).astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    assert tensors["input/x"].shape == (1, 3, 6, 8)
    np.testing.assert_allclose(tensors["input/x"][0], expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)
    assert tensors["input/x"].flags.c_contiguous
    codec.signature.check(tensors, allow_nan=False)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_pixels_have_the_dtype_of_the_graph(dtype: str) -> None:
    codec = classifier(dtype=dtype, scale=1 / 127.5, mean=[1.0])
    tensors, _ = codec.tensors(ImageRequest(PNG, 1))
    assert tensors["input/x"].dtype.name == dtype
    expected = resized(picture()) / 127.5 - 1
    np.testing.assert_allclose(tensors["input/x"][0], expected, atol=2e-3 if dtype == "float16" else 1e-6)


def test_grey_has_one_channel_and_blue_comes_first_where_the_model_wants_it() -> None:
    red_is_first = classifier().tensors(ImageRequest(PNG, 1))[0]["input/x"]
    blue_is_first = classifier(channels="BGR").tensors(ImageRequest(PNG, 1))[0]["input/x"]
    assert blue_is_first.tobytes() == red_is_first[..., ::-1].tobytes()
    for layout, shape in (("NHWC", (1, 6, 8, 1)), ("NCHW", (1, 1, 6, 8))):
        codec = classifier(channels="L", layout=layout)
        grey, _ = codec.tensors(ImageRequest(PNG, 1))
        assert grey["input/x"].shape == shape
        expected = np.asarray(picture("RGB").convert("L").resize((8, 6), Image.Resampling.BILINEAR))
        assert grey["input/x"].ravel().tolist() == expected.ravel().tolist()
        codec.signature.check(grey, allow_nan=False)


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (50, 50), (7, 300), (8, 8), (33, 47)])
def test_the_centre_is_cut_out_as_torchvision_does(size: tuple[int, int]) -> None:
    """Resize(10), then CenterCrop(8): as `torchvision.transforms.functional` computes them."""
    image = picture(height=size[1], width=size[0])
    width, height = size
    short, long = min(size), max(size)
    longest = int(10 * long / short)
    wanted = (10, longest) if width <= height else (longest, 10)
    small = image.resize(wanted, Image.Resampling.BILINEAR)
    top, left = round((wanted[1] - 8) / 2.0), round((wanted[0] - 8) / 2.0)
    expected = np.asarray(small.crop((left, top, left + 8, top + 8)))
    codec = classifier(width=8, height=8, resize="crop", shortest=10)
    tensors, _ = codec.tensors(ImageRequest(encoded(image, "PNG"), 1))
    assert tensors["input/x"][0].tolist() == expected.tolist()


def test_a_crop_that_is_larger_than_what_it_is_cut_from_is_padded_with_black() -> None:
    """As torchvision's CenterCrop does."""
    codec = classifier(width=12, height=12, resize="crop", shortest=8)
    white = encoded(Image.new("RGB", (20, 20), "white"), "PNG")
    array = codec.tensors(ImageRequest(white, 1))[0]["input/x"][0]
    assert (array[2:10, 2:10] == 255).all()
    assert array.astype(int).sum() == 8 * 8 * 3 * 255


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_the_model_says_how_pixels_are_interpolated(interpolation: str) -> None:
    codec = classifier(interpolation=interpolation)
    expected = picture().resize((8, 6), Image.Resampling[interpolation.upper()])
    tensors, _ = codec.tensors(ImageRequest(PNG, 1))
    assert tensors["input/x"][0].tolist() == np.asarray(expected).tolist()


def test_a_model_of_images_needs_to_say_how_pictures_become_its_input() -> None:
    codec = classifier()
    stored = codec.stored
    broken = stored.metadata.model_copy(update={"image": None})
    with pytest.raises(ModelError, match="model tiny:1 has no metadata of its images"):
        type(codec)(type(stored)(stored.tag, stored.path, stored.created_at, broken), codec.settings)


# Limits of the entry


def test_formats_and_pixels_are_limited_by_the_entry() -> None:
    codec = classifier({"image": {"allowed_formats": ["png"], "max_image_pixels": 48 * 64}})
    codec.tensors(ImageRequest(PNG, 1))
    refused = [
        encoded(picture(), "JPEG"),
        encoded(picture(height=48, width=65), "PNG"),
        huge_png(),
        b"",
        b"x",
        PNG[:99],
    ]
    for content in refused:
        with pytest.raises(InvalidImageError):
            codec.tensors(ImageRequest(content, 1))
    for content in refused[:5]:
        with pytest.raises(InvalidImageError):
            codec.judge(ImageRequest(content, 1))
    codec.judge(ImageRequest(PNG, 1))


def test_a_good_jpeg_is_judged_by_its_header_at_once() -> None:
    codec = classifier()
    assert codec.judge_fast(ImageRequest(encoded(picture(), "JPEG"), 1))
    for content in (PNG, b"", b"\xff\xd8"):
        assert not codec.judge_fast(ImageRequest(content, 1))


# How many classes are named


@pytest.mark.parametrize(("classes", "named"), [(2, 2), (3, 3), (5, 5), (6, 5), (1000, 5)])
def test_five_classes_are_named_or_all_where_there_are_fewer(classes: int, named: int) -> None:
    codec = classifier(classes=classes)
    request = read(codec, PNG, "image/png")
    assert request == ImageRequest(PNG, named)
    probabilities = np.linspace(0, 1, classes, dtype=np.float32)[np.newaxis]
    answered = json.loads(codec.answer({"p": probabilities}, request))["predictions"]
    assert [item["class_id"] for item in answered] == list(range(classes))[::-1][:named]
    assert codec.sample().top_k == named
    (text,) = codec.row_answers({"p": probabilities}).predictions
    assert len(json.loads(text)) == named


def test_more_classes_than_there_are_cannot_be_named() -> None:
    codec = classifier(classes=2)
    assert read(codec, PNG, "image/png", "top_k=2").top_k == 2
    with pytest.raises(InvalidInputError) as caught:
        read(codec, PNG, "image/png", "top_k=3")
    assert caught.value.details == (ErrorDetail("top_k", "at most 2, the number of classes"),)


@pytest.mark.parametrize("place", ["query", "json", "form"])
def test_a_model_without_classes_has_no_top_k(place: str) -> None:
    codec = other("regression", [spec("y", "float32", None, 1)])
    assert read(codec, PNG, "image/png") == ImageRequest(PNG, 0)
    if place == "query":
        assert read(codec, PNG, "image/png", "top_k=3").top_k == 0
        return
    body, kind = WITH_TOP_K[1] if place == "json" else WITH_TOP_K[0]
    with pytest.raises(InvalidInputError, match="top_k"):
        read(codec, body, kind)


# Answers


def test_equal_probabilities_come_in_the_order_of_their_classes() -> None:
    codec = classifier()
    answered = json.loads(codec.answer({"p": np.full((1, 3), 1 / 3, np.float32)}, ImageRequest(PNG, 3)))
    assert [item["class_id"] for item in answered["predictions"]] == [0, 1, 2]
    assert list(answered["predictions"][0]) == ["label", "class_id", "probability"]


def test_a_label_is_the_best_class() -> None:
    codec = classifier()
    outputs = {"p": np.array([[0.1, 0.2, 0.7]], np.float32)}
    assert codec.label(outputs, ImageRequest(PNG, 1)) == b'{"prediction":"c2"}'
    assert codec.row_answers(outputs).labels == ["c2"]


def test_outputs_that_are_not_finite_are_the_callers_own() -> None:
    codec = classifier()
    outputs = {"p": np.array([[0.1, np.nan, 0.7]], np.float32)}
    for answer in (codec.answer, codec.label):
        with pytest.raises(InvalidInputError, match=NOT_FINITE):
            answer(outputs, ImageRequest(PNG, 1))
    good = {"p": np.array([[0.1, 0.2, 0.7], [np.inf, 0, 0]], np.float32)}
    assert [error is not None for error in codec.row_answers(good).errors] == [False, True]


def test_a_model_of_images_may_answer_numbers_or_tensors() -> None:
    one = other("regression", [spec("y", "float32", None, 1)])
    assert one.answer({"y": np.float32([[1.5]])}, None) == b'{"prediction":1.5}'
    two = other("regression", [spec("y", "float32", None, 2)])
    assert two.answer({"y": np.float32([[1.5, 2]])}, None) == b'{"prediction":[1.5,2.0]}'
    raw = other("raw", [spec("mask", "uint8", None, 2), spec("z", "float32", None)], scores="")
    outputs = {"mask": np.uint8([[1, 2]]), "z": np.float32([0.5])}
    assert json.loads(raw.answer(outputs, None)) == {"outputs": {"mask": [1, 2], "z": 0.5}}
    for codec, values in ((one, {"y": np.float32([[1.5]])}), (raw, outputs)):
        assert not codec.has_labels
        answers = codec.row_answers(values)
        assert json.loads(answers.predictions[0]) == next(iter(json.loads(codec.answer(values, None)).values()))
        assert answers.labels == [None]


# Jobs, rows of a database and the standard protocols


def test_a_request_outlives_its_process_as_a_job() -> None:
    codec = classifier()
    payload, parameters = codec.dump(ImageRequest(PNG, 2))
    assert payload == PNG
    assert codec.load(payload, json.loads(json.dumps(parameters))) == ImageRequest(PNG, 2)
    assert codec.load(PNG, {"top_k": 2}) == ImageRequest(PNG, 2), "as the version before wrote it"
    plain = other("raw", [spec("z", "float32", None)], scores="")
    assert plain.load(*plain.dump(ImageRequest(PNG, 0))) == ImageRequest(PNG, 0)


@pytest.mark.parametrize("top_k", [None, 0, -1, "2", 2.0, True, [1], 4])
def test_parameters_of_a_job_that_are_none_are_refused(top_k: Any) -> None:
    with pytest.raises(InvalidInputError, match="top_k: "):
        classifier().load(PNG, {"top_k": top_k})


class Files:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def read(self, text: str) -> bytes:
        self.asked.append(text)
        return PNG


def test_a_row_of_a_database_names_a_file() -> None:
    files = Files()
    assert classifier().read_row('{"image_path": "a.png"}', files) == ImageRequest(PNG, 3)
    assert files.asked == ['{"image_path": "a.png"}']
    assert classifier().check_row('{"image_path": "a.png"}') is None
    for row in ("[1]", "{}", '{"image_path": 1}', '{"image_url": "http://x/a.png"}', "{", '{"image": "x"}'):
        assert classifier().check_row(row).message.startswith(("values: ", "image_url: "))


def test_the_protocols_are_offered_files_and_pixels() -> None:
    codec = classifier()
    assert [[each.name for each in offer] for offer in codec.offered()] == [["image"], ["pixels"], ["input/x"]]
    expected, size = codec.tensors(ImageRequest(PNG, 1))
    base64url = base64.urlsafe_b64encode(PNG)
    for value in (PNG, base64url, base64.b64encode(PNG)):
        assert same(codec.from_offered({"image": strings([value])})[0], expected)
    for name in ("pixels", "input/x"):
        tensors, _ = codec.from_offered({name: expected["input/x"]})
        assert same(tensors, expected)
    both, pixels_of_both = codec.from_offered({"image": strings([PNG, base64url])})
    assert both["input/x"].shape == (2, 6, 8, 3)
    assert (size, pixels_of_both) == ("pixels=3072", "pixels=6144")


@pytest.mark.parametrize("value", [b"", b"x", b"not an image", b"a", PNG[:80]])
def test_a_file_of_a_protocol_that_is_no_image_is_named_by_its_place(value: bytes) -> None:
    with pytest.raises(InvalidImageError, match=r"^image\[7\]: "):
        classifier().from_offered({"image": strings([value])}, first_row=7)


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"the shape \[1, 6, 7, 3\] is not \[N, 6, 8, 3\]"):
        classifier().from_offered({"pixels": np.zeros((1, 6, 7, 3), np.uint8)})


def test_code_may_give_bytes_or_a_path(tmp_path: Path) -> None:
    codec = classifier()
    (tmp_path / "cat.png").write_bytes(PNG)
    assert codec.from_fields({"image": PNG}) == ImageRequest(PNG, 3)
    assert codec.from_fields({"image": tmp_path / "cat.png", "top_k": 1}) == ImageRequest(PNG, 1)
    for wrong in ({}, {"image": PNG, "x": 1}, {"top_k": 1}):
        with pytest.raises(InvalidInputError, match="the fields are image and top_k"):
            codec.from_fields(wrong)


def test_the_sample_can_be_sent_as_it_is_shown() -> None:
    codec = classifier()
    body = json.dumps(codec.sample_json()).encode()
    assert read(codec, body, "application/json") == codec.sample()
    image = Image.open(BytesIO(codec.sample().content))
    assert (image.format, image.size) == ("PNG", (32, 32))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.integers(0, len(PNG)).map(lambda end: PNG[:end]))
def test_any_bytes_are_an_image_or_an_error_of_ours(content: bytes) -> None:
    codec = classifier()
    for work in (codec.judge, codec.tensors, lambda request: codec.from_offered({"image": strings([request.content])})):
        try:
            work(ImageRequest(content, 1))
        except ServingError as error:
            assert len(error.message) < 300  # noqa: PT017


def test_the_document_describes_what_the_model_takes_and_answers() -> None:
    described = classifier(classes=2).operation()
    assert described.parameters[0]["schema"] == {"type": "integer", "minimum": 1, "maximum": 2}
    ranked = described.content["application/json"]["schema"]["properties"]["top_k"]
    assert (ranked["maximum"], ranked["description"]) == (2, "classes to name, 2 where it is left out")
    plain = other("raw", [spec("z", "float32", None)], scores="").operation()
    assert plain.parameters == []
    assert plain.label is None
    assert list(plain.content["application/json"]["schema"]["properties"]) == ["image"]
    assert list(plain.answer["properties"]["outputs"]["properties"]) == ["z"]


def test_pixels_of_the_tests_differ_in_every_direction() -> None:
    array = pixels()
    assert not (array == array[::-1]).all()
    assert not (array == array[:, ::-1]).all()
