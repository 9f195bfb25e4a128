"""Models of every kind as their frameworks export them, and what those frameworks say of some input.

Each is a file that `serving models add` takes with the options here, and nothing else.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

FLOAT = TensorProto.FLOAT
_OPSETS = [helper.make_opsetid("", 17)]


@dataclass(frozen=True)
class Case:
    """One model.

    Attributes:
        name: in the store, in configuration and routes.
        model: the ONNX graph.
        options: of `serving models add`.
        kind, task: what `add` has to decide.
        body: a native request of several rows, or of tensors; empty for an image.
        inputs: the same as named tensors; strings are `object` arrays.
        image: a file, for a model of images.
        file: its name; the name of the model unless given.
        outputs: what the framework says, by output; scores of a classification, numbers of a regression.
        scores: the output that a native answer has.
        labels: class names.
        predicted: for each row the class that the framework predicts, or the classes where several may be right.
        probabilities: of a classification, where the graph gives other scores.
        tolerance: of numbers, relative and absolute.
        has_weights_beside: the file has its weights in another file beside it.
    """

    name: str
    model: onnx.ModelProto
    options: tuple[str, ...]
    kind: str
    task: str
    inputs: dict[str, NDArray[Any]]
    outputs: dict[str, NDArray[Any]]
    scores: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    image: bytes = b""
    file: str = ""
    labels: tuple[str, ...] = ()
    has_rows: bool = True
    predicted: tuple[str | list[str], ...] = ()
    probabilities: NDArray[Any] | None = None
    tolerance: float = 1e-5
    has_weights_beside: bool = False

    @property
    def picture(self) -> str:
        """The name of the file of the image, which tells cases of one model apart."""
        return self.file or f"{self.name}.png"

    def write(self, directory: Path) -> Path:
        """The file of the model."""
        file = directory / f"{self.name}.onnx"
        if self.has_weights_beside:
            copy = onnx.ModelProto()
            copy.CopyFrom(self.model)
            onnx.save(copy, file, save_as_external_data=True, size_threshold=0, location=f"{self.name}.weights")
        else:
            file.write_bytes(self.model.SerializeToString())
        return file

    @property
    def gives_outputs(self) -> bool:
        """Whether outputs are answered as they are, by name."""
        return self.kind == "tensors" or self.task == "raw"

    def with_probabilities(self, probabilities: NDArray[Any]) -> Case:
        """The same with the probabilities that are made of its scores."""
        return replace(self, probabilities=probabilities)

    @property
    def request(self) -> bytes:
        return json.dumps(self.body).encode()

    @property
    def values(self) -> list[Any]:
        """The rows as a database has them."""
        if self.kind == "image":
            return [{"image_path": self.picture}]
        if self.kind == "rows":
            return list(self.body["data"])
        inputs = self.body["inputs"]
        if not self.has_rows:
            return [inputs]
        number = len(next(iter(inputs.values())))
        return [{name: values[row] for name, values in inputs.items()} for row in range(number)]


def _to_onnx(model: Any, types: Any, **options: Any) -> onnx.ModelProto:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # skl2onnx looks at what scikit-learn deprecates
        return to_onnx(model, initial_types=types, target_opset={"": 17, "ai.onnx.ml": 3}, **options)


def wine() -> Case:
    """A classifier of one matrix, exported as skl2onnx does it by itself: with a ZipMap and an int64 label."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_wine()
    features = data.data.astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(features, data.target)
    rows = features[[0, 70, 150]]
    labels = tuple(str(name) for name in data.target_names)
    return Case(
        "wine",
        _to_onnx(model, [("X", FloatTensorType([None, 13]))]),
        ("--labels", ",".join(labels), "--features", ",".join(data.feature_names)),
        kind="rows",
        task="classification",
        inputs={"X": rows},
        outputs={"output_probability": model.predict_proba(rows)},
        scores="output_probability",
        body={"data": rows.tolist()},
        labels=labels,
    )


def passengers() -> Case:
    """A table of numbers and strings: one input for each column, from a ColumnTransformer."""
    import pandas
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    random = np.random.default_rng(0)
    count = 300
    table = pandas.DataFrame(
        {
            "age": random.uniform(1, 80, count).astype(np.float32),
            "siblings": random.integers(0, 4, count),
            "city": random.choice(["Paris", "Bern", "서울"], count),
        }
    )
    target = ((table["age"] < 30) ^ (table["city"] == "Bern")).map({True: "yes", False: "no"})
    model = make_pipeline(
        ColumnTransformer([("numbers", StandardScaler(), ["age", "siblings"]), ("words", OneHotEncoder(), ["city"])]),
        LogisticRegression(),
    ).fit(table, target)
    rows = table.head(3)
    types = [
        ("age", FloatTensorType([None, 1])),
        ("siblings", Int64TensorType([None, 1])),
        ("city", StringTensorType([None, 1])),
    ]
    inputs: dict[str, NDArray[Any]] = {
        "age": rows["age"].to_numpy(np.float32)[:, None],
        "siblings": rows["siblings"].to_numpy(np.int64)[:, None],
        "city": rows["city"].to_numpy(object)[:, None],
    }
    return Case(
        "passengers",
        _to_onnx(model, types, options={"zipmap": False}),
        (),
        kind="rows",
        task="classification",
        inputs=inputs,
        outputs={"probabilities": model.predict_proba(rows)},
        scores="probabilities",
        body={"data": json.loads(rows.to_json(orient="records", force_ascii=False, double_precision=15))},
        labels=("no", "yes"),
    )


def diabetes() -> Case:
    """A regressor."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    data = load_diabetes()
    features = data.data.astype(np.float32)
    model = Ridge().fit(features, data.target)
    rows = features[:3]
    return Case(
        "diabetes",
        _to_onnx(model, [("X", FloatTensorType([None, 10]))]),
        (),
        kind="rows",
        task="regression",
        inputs={"X": rows},
        outputs={"variable": model.predict(rows).reshape(-1, 1)},
        scores="variable",
        body={"data": rows.tolist()},
    )


def exercises() -> Case:
    """A regressor of three numbers."""
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.datasets import load_linnerud
    from sklearn.linear_model import LinearRegression

    data = load_linnerud()
    features = data.data.astype(np.float32)
    model = LinearRegression().fit(features, data.target)
    rows = features[:4]
    return Case(
        "exercises",
        _to_onnx(model, [("X", FloatTensorType([None, 3]))]),
        (),
        kind="rows",
        task="regression",
        inputs={"X": rows},
        outputs={"variable": model.predict(rows)},
        scores="variable",
        body={"data": rows.tolist()},
    )


def _picture(seed: int, width: int, height: int) -> Image.Image:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def _png(picture: Image.Image) -> bytes:
    file = BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def textures() -> Case:
    """An image classifier of 40 × 32 pixels in NCHW, normalised by channel, that gives logits."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(5, 3, 4, 4)).astype(np.float32) * 0.2
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input.1", "weights"], ["features"], strides=[4, 4]),
            helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"]),
        ],
        "textures",
        [helper.make_tensor_value_info("input.1", FLOAT, ["batch", 3, 32, 40])],
        [helper.make_tensor_value_info("logits", FLOAT, ["batch", 5])],
        [numpy_helper.from_array(weights, "weights")],
    )
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    picture = _picture(3, 40, 32)
    pixels = (np.asarray(picture, np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
    pixels = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    blocks = pixels.reshape(1, 3, 8, 4, 10, 4)
    logits = np.einsum("ncyixj,kcij->nkyx", blocks, weights).mean(axis=(2, 3))
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Case(
        "textures",
        helper.make_model(graph, ir_version=8, opset_imports=_OPSETS),
        (
            *("--kind", "image", "--task", "classification", "--scale", repr(1 / 255)),
            *("--mean", ",".join(map(str, mean)), "--deviation", ",".join(map(str, deviation))),
        ),
        kind="image",
        task="classification",
        inputs={"input.1": pixels},
        outputs={"logits": logits, "probabilities": exponentials / exponentials.sum(axis=1, keepdims=True)},
        scores="logits",
        image=_png(picture),
        labels=tuple(f"class_{index}" for index in range(5)),
    )


def pets() -> Case:
    """An image classifier of two classes that gives one number, as Keras' binary classifiers do."""
    weights = np.linspace(-1, 1, 3, dtype=np.float32).reshape(3, 1)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["image"], ["colour"], axes=[1, 2], keepdims=0),
            helper.make_node("MatMul", ["colour", "weights"], ["score"]),
            helper.make_node("Sigmoid", ["score"], ["probability"]),
        ],
        "pets",
        [helper.make_tensor_value_info("image", FLOAT, [None, 24, 24, 3])],
        [helper.make_tensor_value_info("probability", FLOAT, [None, 1])],
        [numpy_helper.from_array(weights, "weights")],
    )
    picture = _picture(4, 24, 24)
    pixels = np.asarray(picture, np.float32)[None] / np.float32(255)
    score = pixels.mean(axis=(1, 2)) @ weights
    probability = 1 / (1 + np.exp(-score))
    return Case(
        "pets",
        helper.make_model(graph, ir_version=8, opset_imports=_OPSETS),
        ("--kind", "image", "--labels", "cat,dog", "--scale", repr(1 / 255)),
        kind="image",
        task="classification",
        inputs={"image": pixels},
        outputs={
            "probability": probability,
            "probabilities": np.concatenate([1 - probability, probability], axis=1),
        },
        scores="probability",
        image=_png(picture),
        labels=("cat", "dog"),
    )


def towers() -> Case:
    """Two inputs of different dtypes and two outputs, with names that no programming language takes."""
    random = np.random.default_rng(5)
    table = random.normal(size=(10, 4)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "user/id"], ["vector"]),
            helper.make_node("Mul", ["vector", "item.vector"], ["product"]),
            helper.make_node("ReduceSum", ["product", "axes"], ["score:0"], keepdims=0),
            helper.make_node("Identity", ["vector"], ["user/vector"]),
        ],
        "towers",
        [
            helper.make_tensor_value_info("user/id", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("item.vector", FLOAT, ["n", 4]),
        ],
        [
            helper.make_tensor_value_info("score:0", FLOAT, ["n"]),
            helper.make_tensor_value_info("user/vector", FLOAT, ["n", 4]),
        ],
        [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")],
    )
    users, items = np.array([3, 1, 9]), random.normal(size=(3, 4)).astype(np.float32)
    return Case(
        "towers",
        helper.make_model(graph, ir_version=8, opset_imports=_OPSETS),
        ("--kind", "tensors"),
        kind="tensors",
        task="raw",
        inputs={"user/id": users, "item.vector": items},
        outputs={"score:0": (table[users] * items).sum(axis=1), "user/vector": table[users]},
        body={"inputs": {"user/id": users.tolist(), "item.vector": items.tolist()}},
    )


def voice() -> Case:
    """A step of a recurrent model: its state has the batch second, and the rate is a scalar, as in silero-vad."""
    random = np.random.default_rng(6)
    weights = random.normal(size=(8, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["chunk", "weights"], ["projected"]),
            helper.make_node("Cast", ["rate"], ["speed"], to=FLOAT),
            helper.make_node("Div", ["projected", "speed"], ["scaled"]),
            helper.make_node("Add", ["state", "scaled"], ["next_state"]),
            helper.make_node("ReduceMean", ["next_state"], ["speech"], axes=[0, 2], keepdims=0),
        ],
        "voice",
        [
            helper.make_tensor_value_info("chunk", FLOAT, [None, 8]),
            helper.make_tensor_value_info("state", FLOAT, [2, None, 3]),
            helper.make_tensor_value_info("rate", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("speech", FLOAT, [None]),
            helper.make_tensor_value_info("next_state", FLOAT, [2, None, 3]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    chunk = random.normal(size=(1, 8)).astype(np.float32)
    state = random.normal(size=(2, 1, 3)).astype(np.float32)
    following = state + (chunk @ weights) / np.float32(16000)
    return Case(
        "voice",
        helper.make_model(graph, ir_version=8, opset_imports=_OPSETS),
        (),
        kind="tensors",
        task="raw",
        inputs={"chunk": chunk, "state": state, "rate": np.array(16000)},
        outputs={"speech": following.mean(axis=(0, 2)), "next_state": following},
        body={"inputs": {"chunk": chunk.tolist(), "state": state.tolist(), "rate": 16000}},
        has_rows=False,
    )


MAKE: dict[str, Callable[[], Case]] = {
    each.__name__: each for each in (wine, passengers, diabetes, exercises, textures, pets, towers, voice)
}
