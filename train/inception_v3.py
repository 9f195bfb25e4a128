"""`python -m train.inception_v3`: an InceptionV3 image classifier, stored as an ONNX graph and as a SavedModel."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.core.signature import TensorSpec
from serving.store.models import ONNX_FILE, SAVED_MODEL_DIRECTORY, ImagePreprocessing, ModelMetadata, Verification
from serving.store.saving import check_tag, library_versions, staging
from train import cli, keras_weights, onnx_graph, tensorflow_export, tensorflow_setup
from train.errors import WeightsUnavailableError
from train.images import SIDE, decode, encode, seeded_images
from train.keras_weights import Classifier
from train.labels import check_length, read_labels
from train.progress import Reporter
from train.tensorflow_export import decode_pixels, encode_base64
from train.verification import compare, compare_labels, compare_pixels

STORE_TAG = "inception_v3"
SAVED_MODEL_SUFFIX = "_savedmodel"
TOLERANCE = 5e-4
"""Of a probability. 94 convolutions summed in another order differ by up to 7e-5 with random weights, which are the
most sensitive; a single grey level more or less changes the same probabilities by 2e-2 and more."""
_VERIFIED_IMAGES = 6
# Pillow and TensorFlow resize with the same filter but round differently, to within one grey level.
_RESIZE_TOLERANCE = 1


def saved_model_tag(tag: str) -> str:
    """`inception_v3` to `inception_v3_savedmodel`; a version stays at the end."""
    name, colon, version = tag.partition(":")
    return f"{name}{SAVED_MODEL_SUFFIX}{colon}{version}"


def obtain(reporter: Reporter, *, weights: str, labels: list[str] | None, seed: int) -> Classifier:
    """The Keras model that `--weights` asks for.

    Raises:
        TrainingError: it cannot be had.
    """
    if weights in {"imagenet", "auto"}:
        try:
            with reporter.step("inception_v3: getting the ImageNet weights (92 MB unless they are in Keras' cache)"):
                classifier = keras_weights.imagenet()
        except WeightsUnavailableError as error:
            if weights == "imagenet":
                raise
            reporter.warn(
                f"{error}. Going on with RANDOM weights: this model is NOT TRAINED and its predictions mean nothing."
            )
        else:
            if labels is None:
                return classifier
            check_length(labels, classes=len(classifier.labels))
            return Classifier(classifier.model, labels, classifier.weights)
    if weights in {"random", "auto"}:
        with reporter.step(f"inception_v3: making random weights from seed {seed}"):
            return keras_weights.random(seed=seed, labels=labels)
    with reporter.step(f"inception_v3: loading {weights}"):
        return keras_weights.from_file(Path(weights), labels=labels)


def verify_onnx(
    file: Path, original: tensorflow_export.Original, images: npt.NDArray[np.uint8], *, tolerance: float
) -> Verification:
    """Compare the graph with the Keras model on `images` uint8 [N, 299, 299, 3].

    Raises:
        VerificationError: they differ by more than `tolerance`.
    """
    exported = onnx_graph.run(str(file), "image", images)
    return compare(exported, original.predict(images), tolerance=tolerance, what="inception_v3 as ONNX")


def verify_saved_model(
    directory: Path,
    original: tensorflow_export.Original,
    images: npt.NDArray[np.uint8],
    labels: Sequence[str],
    *,
    tolerance: float,
) -> Verification:
    """Reload the SavedModel and compare it with the Keras model.

    `images` uint8 [N, 299, 299, 3] go in as PNG files; files of other sizes are compared with what Pillow makes
    of them up to the pixels, and from there on with the Keras model, because one grey level can change the label
    of an untrained network.

    Raises:
        VerificationError: probabilities differ by more than `tolerance`, or pixels or labels are wrong.
    """
    loaded = tensorflow_export.LoadedSavedModel(directory)
    what = "inception_v3 as SavedModel"
    files = [
        *(encode(image) for image in images),
        encode(seeded_images(1, seed=1, height=480, width=640)[0], "JPEG"),
        encode(seeded_images(2, seed=2, height=400, width=300)[1]),
        encode(seeded_images(3, seed=3, height=150, width=200)[2]),
    ]
    decoded = np.stack([np.asarray(decode_pixels(text)) for text in encode_base64(files)])
    by_pillow = np.stack([decode(file) for file in files])
    compare_pixels(decoded, by_pillow, tolerance=_RESIZE_TOLERANCE, what=what)
    compare_pixels(decoded[: len(images)], images, tolerance=0, what=what)
    expected = original.predict(decoded)
    verification = compare(loaded.probabilities(files), expected, tolerance=tolerance, what=what)
    compare_labels(loaded.labels(files), expected, labels, margin=2 * tolerance, what=what)
    return verification


def make(
    reporter: Reporter,
    *,
    weights: str = "imagenet",
    labels_file: Path | None = None,
    seed: int = 0,
    store_tag: str = STORE_TAG,
    tolerance: float = TOLERANCE,
) -> tuple[str, str]:
    """Get the weights, export, verify, and save both models. Returns their tags.

    Raises:
        TrainingError: nothing was saved.
    """
    tags = (store_tag, saved_model_tag(store_tag))
    for tag in tags:
        check_tag(tag)
    labels = read_labels(labels_file) if labels_file else None
    with reporter.step("inception_v3: loading TensorFlow"):
        tensorflow_setup.load()
    classifier = obtain(reporter, weights=weights, labels=labels, seed=seed)
    with staging() as place:
        onnx_file = place.directory / ONNX_FILE
        directory = place.directory / SAVED_MODEL_DIRECTORY
        original = tensorflow_export.Original(classifier.model)
        model = original.with_pixels()
        images = seeded_images(_VERIFIED_IMAGES, seed=seed + 1)
        with reporter.step("inception_v3: exporting to ONNX"):
            graph = tensorflow_export.export_onnx(model, onnx_file)
        with reporter.step("inception_v3: verifying the ONNX graph"):
            onnx_check = verify_onnx(onnx_file, original, images, tolerance=tolerance)
        with reporter.step("inception_v3: exporting to a SavedModel"):
            tensorflow_export.export_saved_model(model, classifier.labels, directory / "1")
        with reporter.step("inception_v3: verifying the SavedModel"):
            saved_check = verify_saved_model(directory / "1", original, images, classifier.labels, tolerance=tolerance)
        for what, check in (("ONNX", onnx_check), ("SavedModel", saved_check)):
            reporter.say(
                f"inception_v3: {what}: largest difference {check.max_abs_difference:.1e} "
                f"over {check.inputs} images (tolerance {check.tolerance:.1e})"
            )
        store_labels = {"task": "inception_v3", "weights": classifier.weights.origin}
        with place.model(
            tags[0], _onnx_metadata(classifier, graph, onnx_check, seed), labels={"framework": "onnx", **store_labels}
        ) as path:
            onnx_file.rename(path / ONNX_FILE)
        with place.model(
            tags[1], _saved_metadata(classifier, saved_check, seed), labels={"framework": "tensorflow", **store_labels}
        ) as path:
            shutil.move(directory, path / SAVED_MODEL_DIRECTORY)
    for tag in place.tags:
        reporter.say(f"inception_v3: saved {tag} ({classifier.weights.origin} weights)")
    return place.tags[0], place.tags[1]


def _onnx_metadata(classifier: Classifier, graph: Any, verification: Verification, seed: int) -> ModelMetadata:
    return ModelMetadata(
        format="onnx",
        kind="image",
        task="classification",
        scores="probabilities",
        # The graph normalises by itself, and the defaults are what Keras' load_img does.
        image=ImagePreprocessing(width=SIDE, height=SIDE),
        labels=classifier.labels,
        inputs=[TensorSpec(name="image", dtype="uint8", shape=[None, SIDE, SIDE, 3])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, len(classifier.labels)])],
        weights=classifier.weights,
        metrics=_metrics(classifier),
        verification=verification,
        versions=library_versions(tensorflow_setup.distribution(), "keras", "tf2onnx", "onnx", "onnxruntime", "pillow"),
        onnx_ir_version=graph.ir_version,
        onnx_opset=onnx_graph.opset(graph),
        seed=seed,
    )


def _saved_metadata(classifier: Classifier, verification: Verification, seed: int) -> ModelMetadata:
    return ModelMetadata(
        format="tensorflow_savedmodel",
        labels=classifier.labels,
        inputs=[TensorSpec(name="image", dtype="string", shape=[None])],
        outputs=[TensorSpec(name=tensorflow_export.OUTPUT, dtype="string", shape=[None])],
        weights=classifier.weights,
        metrics=_metrics(classifier),
        verification=verification,
        versions=library_versions(tensorflow_setup.distribution(), "keras", "pillow"),
        seed=seed,
    )


def _metrics(classifier: Classifier) -> dict[str, float]:
    return {"parameters": float(classifier.model.count_params())}


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("train.inception_v3", __doc__.partition(": ")[2])
    cli.add_model_options(parser, tag=STORE_TAG, tolerance=TOLERANCE)
    parser.add_argument(
        "--weights",
        default="imagenet",
        metavar="imagenet|random|auto|FILE",
        help="imagenet: Keras downloads them (the default); random: an untrained network from the seed; "
        "auto: imagenet, or random where it cannot be had; FILE: a Keras model (.keras, .h5) that takes pixels in "
        "[-1, 1] as inception_v3.preprocess_input gives them, or InceptionV3's weights alone (.weights.h5, .h5)",
    )
    parser.add_argument("--labels", type=Path, metavar="FILE", help="a JSON list of class names, by class id")

    def command(arguments: argparse.Namespace, reporter: Reporter) -> None:
        make(
            reporter,
            weights=arguments.weights,
            labels_file=arguments.labels,
            seed=arguments.seed,
            store_tag=arguments.store_tag,
            tolerance=arguments.tolerance,
        )

    return cli.run(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
