"""Where an InceptionV3's weights come from: ImageNet, a seed, or a file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.store.models import Weights
from train.errors import TrainingError, WeightsUnavailableError
from train.images import seeded_images
from train.labels import check_length, numbered

IMAGENET_CLASSES = 1000
# urllib waits for ever by default, and a firewall that drops packets would hold up `make serve`.
_NETWORK_TIMEOUT_SECONDS = 20.0
_CALIBRATION_IMAGES = 12
# Standard deviation of the logits of random weights: the best class then has a probability of 0.05 to 0.5.
_LOGIT_SPREAD = 3.0


@dataclass(frozen=True, slots=True)
class Classifier:
    """A Keras model: float32 [N, 299, 299, 3] in [-1, 1] to probabilities or logits [N, classes]."""

    model: Any
    labels: list[str]
    weights: Weights


def imagenet() -> Classifier:
    """What Keras downloads, or finds in its cache.

    Raises:
        WeightsUnavailableError: neither; the message names the ways out.
    """
    import keras

    application = keras.applications.inception_v3
    try:
        with _network_timeout(), contextlib.redirect_stdout(io.StringIO()):
            model = application.InceptionV3(weights="imagenet")
            # Descending scores: the classes come back in the order of their ids.
            scores = np.arange(IMAGENET_CLASSES, 0, -1, dtype=np.float32)[np.newaxis]
            (ranking,) = application.decode_predictions(scores, top=IMAGENET_CLASSES)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
        raise WeightsUnavailableError(
            f"the ImageNet weights cannot be had ({_one_line(error)}); ways out: `--weights FILE` with a Keras file, "
            "`--weights random` for an untrained model to try things out with, or a pre-filled Keras cache: "
            "inception_v3_weights_tf_dim_ordering_tf_kernels.h5 and imagenet_class_index.json in "
            f"{home / 'models'}"
        ) from error
    weights = Weights(
        origin="imagenet",
        trained=True,
        description="Keras' ImageNet weights; the SHA-256 is of the model's variables",
        sha256=variables_sha256(model),
    )
    return Classifier(model, [name for _, name, _ in ranking], weights)


def random(*, seed: int, labels: list[str] | None = None) -> Classifier:
    """An untrained network whose outputs nevertheless differ clearly from image to image.

    Fresh from Keras, batch normalisation would be the identity and the probabilities all but uniform, so a
    comparison with an exported graph could hardly fail.
    """
    import keras

    keras.utils.set_random_seed(seed)
    generator = np.random.default_rng(seed)
    model = keras.applications.InceptionV3(weights=None, classes=len(labels or numbered(IMAGENET_CLASSES)))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    images = seeded_images(_CALIBRATION_IMAGES, seed=seed)
    pixels = keras.applications.inception_v3.preprocess_input(images.astype(np.float32))
    for layer in norms:
        layer.beta.assign(generator.normal(0, 0.3, layer.beta.shape))
        momentum, layer.momentum = layer.momentum, 0.0  # one pass in training mode sets the statistics
    model(pixels, training=True)
    for layer in norms:
        layer.momentum = momentum
        deviation = np.sqrt(np.asarray(layer.moving_variance))
        layer.moving_mean.assign_add(generator.normal(0, 0.1, deviation.shape) * deviation)
        layer.moving_variance.assign(deviation**2 * generator.uniform(0.8, 1.25, deviation.shape))
    head = model.layers[-1]
    features = np.asarray(keras.Model(model.input, head.input)(pixels, training=False))
    kernel = np.asarray(head.kernel)
    logits = features @ kernel
    scale = _LOGIT_SPREAD / (logits - logits.mean(axis=0)).std()
    head.kernel.assign(kernel * scale)
    head.bias.assign(-logits.mean(axis=0) * scale)
    weights = Weights(
        origin="random",
        trained=False,
        description=f"random weights of seed {seed}: not trained, for trying things out; "
        "the SHA-256 is of the model's variables",
        sha256=variables_sha256(model),
    )
    return Classifier(model, labels or numbered(IMAGENET_CLASSES), weights)


def from_file(file: Path, *, labels: list[str] | None = None) -> Classifier:
    """A Keras file: a whole model (`.keras`, `.h5`) or InceptionV3's weights alone (`.weights.h5`, `.h5`).

    Code inside the file (Lambda layers, pickles) is never run.

    Raises:
        TrainingError: the file cannot be read, or the model does not fulfil the contract of `Classifier`.
    """
    if not file.is_file():
        raise TrainingError(f"--weights {file}: there is no such file")
    if file.suffix not in {".keras", ".h5"}:
        raise TrainingError(f"--weights {file}: must be a .keras or an .h5 file")
    try:
        model = _read(file, classes=len(labels) if labels else IMAGENET_CLASSES)
    except Exception as error:  # a file from anywhere fails anywhere inside Keras, h5py and zipfile
        raise TrainingError(f"--weights {file}: Keras cannot load it: {_one_line(error)}") from error
    classes = _check_contract(model, file)
    if labels is not None:
        check_length(labels, classes=classes)
    weights = Weights(
        origin="file",
        trained=True,
        description=f"Keras file {file.name}; the SHA-256 is of the file",
        sha256=_file_sha256(file),
    )
    return Classifier(model, labels or numbered(classes), weights)


def variables_sha256(model: Any) -> str:
    """Of the variables in the order of `model.variables`: path, shape and little-endian values of each."""
    digest = hashlib.sha256()
    for variable in model.variables:
        values = np.asarray(variable)
        digest.update(f"{variable.path} {values.shape} {values.dtype}\n".encode())
        digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _read(file: Path, *, classes: int) -> Any:
    import h5py  # type: ignore[import-untyped]  # comes with Keras
    import keras

    if file.suffix == ".h5":
        with h5py.File(file) as content:
            whole = "model_config" in content.attrs
        if not whole:
            model = keras.applications.InceptionV3(weights=None, classes=classes)
            model.load_weights(file)
            return model
    return keras.saving.load_model(file, compile=False, safe_mode=True)


def _check_contract(model: Any, file: Path) -> int:
    """Number of classes; TrainingError when the shapes are wrong or the model normalises its input itself."""
    import keras

    expected = "it must take one image input [N, 299, 299, 3] and give one output [N, classes], with 2 classes or more"
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise TrainingError(f"--weights {file}: {len(model.inputs)} inputs, {len(model.outputs)} outputs; {expected}")
    taken, given = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    fits = len(taken) == 4 and all(have in {None, want} for have, want in zip(taken, (None, 299, 299, 3), strict=True))
    if not fits or len(given) != 2 or given[0] is not None or (given[1] or 0) < 2:
        raise TrainingError(f"--weights {file}: input shape {taken}, output shape {given}; {expected}")
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            raise TrainingError(
                f"--weights {file}: layer {layer.name} normalises the pixels, and the exported graph does it too "
                "(to [-1, 1], as inception_v3.preprocess_input); save the model without that layer"
            )
    return int(given[1])


@contextlib.contextmanager
def _network_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_TIMEOUT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _file_sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
