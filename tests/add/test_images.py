"""Models of images from anywhere: what the graph tells, and what options have to say."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from PIL import Image

from serving.add.add import add_model
from serving.add.options import AddOptions, ImageOptions
from serving.codecs.opening import open_codec
from serving.core.errors import ModelError
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import ImagePreprocessing, StoredModel, open_model
from tests import packages
from tests.add.graphs import add, floats, graph, info, node, run
from tests.train.conftest import KERAS_WARNINGS
from train.images import seeded_images

pytestmark = pytest.mark.usefixtures("bentoml_home")
RANDOM = np.random.default_rng(1)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = ImageOptions(
    resize="crop", shortest=40, interpolation="bicubic", scale=1 / 255, mean=MEAN, deviation=DEVIATION
)


def pooled(layout: str, kind: int, shape: list[Any], *, classes: int = 4, output: str = "logits") -> onnx.ModelProto:
    """A classifier of the mean and the largest value of each channel."""
    axes = [1, 2] if layout == "NHWC" else [2, 3]
    channels = next((length for length in (shape[3], shape[1]) if length in (1, 3)), 3)
    return graph(
        [
            node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            node("ReduceMean", ["f"], ["mean"], axes=axes, keepdims=0),
            node("ReduceMax", ["f"], ["max"], axes=axes, keepdims=0),
            node("Concat", ["mean", "max"], ["features"], axis=1),
            node("MatMul", ["features", "w"], [output]),
        ],
        [info("x", kind, shape)],
        [floats(output, None)],
        {"w": RANDOM.normal(size=(2 * channels, classes)).astype(np.float32)},
    )


def file(width: int = 90, height: int = 60, kind: str = "PNG") -> bytes:
    target = io.BytesIO()
    Image.fromarray(seeded_images(3, seed=5, height=height, width=width)[2]).save(target, kind)
    return target.getvalue()


def probabilities(stored: StoredModel, content: bytes) -> np.ndarray[Any, Any]:
    codec: Any = open_codec(stored, ModelSettings())
    engine = open_engine(stored, ModelSettings())
    request = codec.sample()._replace(content=content)
    tensors, _ = codec.tensors(request)
    return codec._answers.probabilities(engine.run(tensors))[0]


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_pixels_of_a_graph_that_normalises_by_itself(tmp_path: Path) -> None:
    """As train/ exports InceptionV3: nothing has to be said."""
    proto = pooled("NHWC", TensorProto.UINT8, ["n", 48, 64, 3])
    added, stored = add(proto, tmp_path)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.activation) == ("image", "classification", "softmax")
    assert metadata.image == ImagePreprocessing(width=64, height=48)
    assert metadata.labels == ["class_0", "class_1", "class_2", "class_3"]
    assert set(added.sample) == {"image"}
    content = file()
    pixels = np.asarray(Image.open(io.BytesIO(content)).resize((64, 48), Image.Resampling.BILINEAR))
    expected = softmax(run(proto, {"x": pixels[np.newaxis]})["logits"][0])
    assert np.allclose(probabilities(stored, content), expected, atol=1e-5)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("side", [32, "side"])
def test_torchvision(tmp_path: Path, batch: Any, side: Any) -> None:
    """NCHW floats, which somebody has to say how to make; also with a batch of 1 and with any size."""
    proto = pooled("NCHW", TensorProto.FLOAT, [batch, 3, side, side], classes=2)
    _, stored = add(proto, tmp_path)
    assert stored.metadata.kind == "tensors"  # how its floats are made is not in the graph
    if side == "side":
        with pytest.raises(ModelError, match=r"the size of x .* cannot be told: say --image-size"):
            add(proto, tmp_path, image=TORCHVISION)
    options = ImageOptions(**{name: getattr(TORCHVISION, name) for name in ImageOptions.__slots__} | {"size": (32, 32)})
    _, stored = add(proto, tmp_path, image=options, labels=["cat", "dog"])
    assert (stored.metadata.kind, stored.metadata.batching) == ("image", "free" if batch == "n" else "one")
    content = file()
    image = Image.open(io.BytesIO(content)).resize((60, 40), Image.Resampling.BICUBIC).crop((14, 4, 46, 36))
    pixels = (np.asarray(image, np.float32) / 255 - np.array(MEAN)) / np.array(DEVIATION)
    tensor = pixels.transpose(2, 0, 1)[np.newaxis].astype(np.float32)
    expected = softmax(run(proto, {"x": tensor})["logits"][0])
    assert np.allclose(probabilities(stored, content), expected, atol=1e-4)


def test_what_is_said_wrongly_is_refused(tmp_path: Path) -> None:
    proto = pooled("NCHW", TensorProto.FLOAT, ["n", 3, 32, 32])
    free = pooled("NCHW", TensorProto.FLOAT, ["n", None, None, None])
    bytes_ = pooled("NHWC", TensorProto.UINT8, ["n", 32, 32, 3])
    for given, image, message in (
        (proto, ImageOptions(size=(64, 64)), "--image-size 64x64: the graph takes 32x32"),
        (proto, ImageOptions(mean=(0.5,)), "--mean: 1 numbers for 3 channels"),
        (proto, ImageOptions(deviation=(1.0, 0.0, 1.0)), "--deviation: 0 cannot be one"),
        (proto, ImageOptions(channels="L"), "has 3 channels in the layout NCHW, which is not L"),
        (proto, ImageOptions(layout="NHWC"), "has 32 channels in the layout NHWC, which is not RGB"),
        (proto, ImageOptions(shortest=40, resize="stretch"), "--shortest: it needs --resize crop"),
        (proto, ImageOptions(shortest=20), "--shortest: it needs --resize crop, and is at least the shorter side"),
        (free, ImageOptions(size=(32, 32)), "--layout NHWC or NCHW"),
        (bytes_, ImageOptions(scale=1 / 255), "the graph takes uint8, pixels as they are"),
    ):
        with pytest.raises(ModelError, match=message):
            add(given, tmp_path, image=image)
    _, stored = add(free, tmp_path, image=ImageOptions(size=(32, 32), layout="NCHW"))
    assert stored.metadata.image is not None
    assert stored.metadata.image.layout == "NCHW"


def test_other_tasks_of_images(tmp_path: Path) -> None:
    score = pooled("NHWC", TensorProto.UINT8, ["n", 32, 32, 3], classes=1, output="quality")
    assert add(score, tmp_path)[1].metadata.task == "regression"
    vector = pooled("NHWC", TensorProto.UINT8, ["n", 32, 32, 3], classes=16, output="embedding")
    assert add(vector, tmp_path)[1].metadata.task == "raw"
    assert add(vector, tmp_path, task="classification")[1].metadata.activation == "softmax"


def test_a_sample_that_is_a_picture(tmp_path: Path) -> None:
    proto = pooled("NHWC", TensorProto.UINT8, ["n", 32, 32, 3])
    (tmp_path / "photo.jpg").write_bytes(file(kind="JPEG"))
    add(proto, tmp_path, sample=tmp_path / "photo.jpg")
    (tmp_path / "photo.jpg").write_bytes(b"no picture")
    with pytest.raises(ModelError, match="does not answer its sample: this is not an image"):
        add(proto, tmp_path, sample=tmp_path / "photo.jpg")


# A trained model, which is not part of the project; see the README beside it.

SHARED = Path(os.environ.get("SHARED_MODELS", Path(__file__).resolve().parents[3] / "shared/models"))
EFFICIENTNET = SHARED / "efficientnet_lite0.onnx"
PHOTOS = {
    "chelsea.png": [285, 281, 282],
    "coffee.png": [967, 968, 504],
    "rocket.jpg": [657, 744],  # the third is as likely as the fourth, and decoders of JPEG differ
    "motorcycle_left.png": [665, 535, 518],
}


@pytest.mark.packages
@pytest.mark.skipif(not EFFICIENTNET.is_file(), reason=f"there is no {EFFICIENTNET}")
def test_a_trained_classifier_knows_photos() -> None:
    options = ImageOptions(
        resize="crop", shortest=256, interpolation="bicubic", scale=1 / 255, mean=MEAN, deviation=DEVIATION
    )
    stored = open_model(add_model(EFFICIENTNET, AddOptions(name="efficientnet", image=options)).tag)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.scores) == ("image", "classification", "logits")
    assert (metadata.activation, metadata.batching, len(metadata.labels)) == ("softmax", "free", 1000)
    session = onnxruntime.InferenceSession(EFFICIENTNET)
    for name, expected in PHOTOS.items():
        content = packages.read("scikit-image", f"skimage/data/{name}")
        for kind in ("", "PNG", "JPEG"):
            given = converted(content, kind)
            found = probabilities(stored, given)
            assert found.argsort()[::-1][: len(expected)].tolist() == expected, (name, kind)
            assert np.allclose(found, softmax(session.run(None, {"pixels": as_torchvision(given)})[0][0]), atol=1e-5)


def converted(content: bytes, kind: str) -> bytes:
    """The same picture as a file of another kind."""
    if not kind:
        return content
    target = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(target, kind, quality=95, subsampling=0)
    return target.getvalue()


def as_torchvision(content: bytes) -> np.ndarray[Any, Any]:
    """`Resize(256, BICUBIC)`, `CenterCrop(224)`, `ToTensor()`, `Normalize(…)`; float32 [1, 3, 224, 224]."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    sides = [256 if side == min(image.size) else int(256 * side / min(image.size)) for side in image.size]
    image = image.resize((sides[0], sides[1]), Image.Resampling.BICUBIC)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1)[np.newaxis].astype(np.float32)


@pytest.mark.slow
@pytest.mark.filterwarnings(KERAS_WARNINGS)
def test_a_model_of_keras(keras: Any, tmp_path: Path) -> None:
    """As the page has it: `model.export(…, format="onnx")`, and pixels from -1 to 1."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((32, 32, 3), name="pixels"), keras.layers.Conv2D(4, 3, strides=4, activation="relu")]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model(np.zeros((1, 32, 32, 3), np.float32))  # a trained model has been called
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.export(tmp_path / "pets.onnx", format="onnx", verbose=False)
    image = ImageOptions(scale=1 / 127.5, mean=(1.0, 1.0, 1.0))
    options = AddOptions(name="pets", labels=["cat", "dog", "bird"], image=image)
    stored = open_model(add_model(tmp_path / "pets.onnx", options).tag)
    metadata = stored.metadata
    assert (metadata.kind, metadata.task, metadata.activation, metadata.batching) == (
        "image",
        "classification",
        "none",
        "free",
    )
    content = file(kind="JPEG")
    (tmp_path / "picture.jpg").write_bytes(content)
    loaded = keras.utils.img_to_array(
        keras.utils.load_img(tmp_path / "picture.jpg", target_size=(32, 32), interpolation="bilinear")
    )
    pixels = keras.applications.inception_v3.preprocess_input(np.array(loaded))[np.newaxis]
    assert np.allclose(probabilities(stored, content), np.asarray(model(pixels))[0], atol=1e-5)
