"""`python -m train.iris`: a support-vector classifier on Fisher's iris data, stored as an ONNX graph."""

from __future__ import annotations

import argparse
import hashlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.core.signature import TensorSpec
from serving.core.tensors import to_bytes
from serving.store.models import ONNX_FILE, SAMPLE_FILE, ModelMetadata, Verification, Weights
from serving.store.saving import check_tag, library_versions, staging
from train import cli, onnx_graph
from train.progress import Reporter
from train.verification import compare

STORE_TAG = "iris"
TOLERANCE = 1e-5
"""Single precision through a radial kernel and a sigmoid: measured 1e-7, a wrong graph is off by 1e-2 or more."""
HELD_OUT_FRACTION = 0.2
FOLDS = 5
SAMPLE = [[5.1, 3.5, 1.4, 0.2]]
"""The first flower of the data, which `/iris/predict/test` predicts."""
# The newest that this graph's operators need; ONNX Runtime has read both since 1.14.
OPSETS = {"": 18, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True)
class IrisData:
    """`features` float64 [150, 4] in centimetres, `classes` int64 [150]."""

    features: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    feature_names: list[str]
    labels: list[str]

    def sha256(self) -> str:
        """Of the features as little-endian float64 followed by the classes as little-endian int64."""
        digest = hashlib.sha256(self.features.astype("<f8").tobytes())
        digest.update(self.classes.astype("<i8").tobytes())
        return digest.hexdigest()


def load_data() -> IrisData:
    """The data that scikit-learn brings along."""
    from sklearn.datasets import load_iris

    data = load_iris()
    return IrisData(
        features=np.asarray(data.data, dtype=np.float64),
        classes=np.asarray(data.target, dtype=np.int64),
        feature_names=[str(name) for name in data.feature_names],
        labels=[str(name) for name in data.target_names],
    )


def train(data: IrisData, *, seed: int) -> tuple[Any, dict[str, float]]:
    """Fit on 80 % of each class and measure on the rest.

    Returns the scikit-learn pipeline (features [N, 4] in, probabilities [N, 3] out) and its metrics.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics import accuracy_score, log_loss
    from sklearn.model_selection import StratifiedKFold, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    rows, held_out, classes, held_out_classes = train_test_split(
        data.features, data.classes, test_size=HELD_OUT_FRACTION, stratify=data.classes, random_state=seed
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    # One SVC with Platt scaling over held-out folds; SVC's own probability=True is deprecated.
    pipeline = make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False, cv=folds))
    pipeline.fit(rows, classes)
    probabilities = pipeline.predict_proba(held_out)
    metrics = {
        "held_out_accuracy": float(accuracy_score(held_out_classes, probabilities.argmax(axis=1))),
        "held_out_log_loss": float(log_loss(held_out_classes, probabilities)),
        "held_out_rows": float(len(held_out)),
        "training_rows": float(len(rows)),
    }
    return pipeline, metrics


def export(pipeline: Any) -> Any:
    """Convert the pipeline to an `onnx.ModelProto`: `features` float32 [N, 4] to `probabilities` float32 [N, 3]."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    with warnings.catch_warnings():
        # skl2onnx still looks at attributes that scikit-learn deprecates; it gets by without them.
        warnings.filterwarnings("ignore", message=r"Attribute `prob[AB]_` was deprecated", category=FutureWarning)
        model = to_onnx(
            pipeline,
            initial_types=[("features", FloatTensorType([None, 4]))],
            options={"zipmap": False},
            target_opset=OPSETS,
        )
    # The label is the largest probability; leaving it out spares each call the nodes that make it.
    model = select_model_inputs_outputs(model, outputs=["probabilities"])
    return onnx_graph.name_rows(onnx_graph.drop_unused_initializers(model), classes=3)


def verify(model: Any, pipeline: Any, data: IrisData, *, tolerance: float) -> Verification:
    """Compare the graph with the pipeline on every row of the data.

    Raises:
        VerificationError: they differ by more than `tolerance`.
    """
    exported = onnx_graph.run(model.SerializeToString(), "features", data.features.astype(np.float32))
    return compare(exported, pipeline.predict_proba(data.features), tolerance=tolerance, what="iris")


def make(reporter: Reporter, *, seed: int = 0, store_tag: str = STORE_TAG, tolerance: float = TOLERANCE) -> str:
    """Train, export, verify and save. Returns the tag.

    Raises:
        TrainingError: nothing was saved.
    """
    check_tag(store_tag)
    with reporter.step("iris: loading scikit-learn and training"):
        data = load_data()
        pipeline, metrics = train(data, seed=seed)
    reporter.say(f"iris: held-out accuracy {metrics['held_out_accuracy']:.3f} on {metrics['held_out_rows']:.0f} rows")
    with reporter.step("iris: exporting to ONNX and verifying"):
        model = export(pipeline)
        verification = verify(model, pipeline, data, tolerance=tolerance)
    reporter.say(
        f"iris: largest difference {verification.max_abs_difference:.1e} over {verification.inputs} rows "
        f"(tolerance {tolerance:.1e})"
    )
    metadata = ModelMetadata(
        format="onnx",
        kind="rows",
        task="classification",
        scores="probabilities",
        labels=data.labels,
        feature_names=data.feature_names,
        inputs=[TensorSpec(name="features", dtype="float32", shape=[None, 4])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[None, 3])],
        weights=Weights(
            origin="trained",
            trained=True,
            description=f"support-vector classifier fitted on {metrics['training_rows']:.0f} rows of the iris data; "
            "the SHA-256 is of all the data",
            sha256=data.sha256(),
        ),
        metrics=metrics,
        verification=verification,
        versions=library_versions("scikit-learn", "skl2onnx", "onnx", "onnxruntime"),
        onnx_ir_version=model.ir_version,
        onnx_opset=onnx_graph.opset(model),
        seed=seed,
    )
    with (
        staging() as place,
        place.model(store_tag, metadata, labels={"framework": "onnx", "task": "iris", "weights": "trained"}) as path,
    ):
        (path / ONNX_FILE).write_bytes(model.SerializeToString())
        (path / SAMPLE_FILE).write_bytes(to_bytes({"features": np.array(SAMPLE, np.float32)}))
    reporter.say(f"iris: saved {place.tags[0]}")
    return place.tags[0]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("train.iris", __doc__.partition(": ")[2])
    cli.add_model_options(parser, tag=STORE_TAG, tolerance=TOLERANCE)

    def command(arguments: argparse.Namespace, reporter: Reporter) -> None:
        make(reporter, seed=arguments.seed, store_tag=arguments.store_tag, tolerance=arguments.tolerance)

    return cli.run(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
