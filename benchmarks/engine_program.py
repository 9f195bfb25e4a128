"""`python -m benchmarks.engine_program ENGINE`: one engine alone in a process; its speed, or its answers.

A process of its own, so that nothing else runs on its threads, and in the environment that has its library.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import percentile
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import SAVED_MODEL_DIRECTORY, open_model
from train.images import seeded_images

Predict = Callable[[NDArray[np.uint8]], Any]
ENGINES = ("tensorflow", "onnxruntime", "openvino-float32", "openvino-bfloat16")
TAG, SAVED_MODEL_TAG = "inception_v3:latest", "inception_v3_savedmodel:latest"
ANSWER_BATCH = 8
NOISE_SEED = 1


def load(engine: str, *, threads: int) -> Predict:
    """uint8 `[N, 299, 299, 3]` to probabilities `[N, classes]`."""
    if engine == "tensorflow":
        return _load_tensorflow(threads=threads)
    model = open_model(TAG)
    library, _, precision = engine.partition("-")
    settings = ModelSettings.model_validate(
        {"engine": library, "threads": threads, **({"openvino_precision": precision} if precision else {})}
    )
    opened = open_engine(model, settings)
    (image,), scores = model.metadata.inputs, model.metadata.scores
    return lambda images: opened.run({image.name: images})[scores]


def _load_tensorflow(*, threads: int) -> Predict:
    """The stored SavedModel from the decoded pixels on, with its variables as constants, as for inference.

    Its signatures take encoded files; decoding them is no part of what is compared here.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    loaded = tf.saved_model.load(str(open_model(SAVED_MODEL_TAG).path / SAVED_MODEL_DIRECTORY / "1"))
    whole = convert_variables_to_constants_v2(loaded.signatures["probabilities"], lower_control_flow=False)
    (pixels,) = (
        operation.outputs[0]
        for operation in whole.graph.get_operations()
        if operation.type == "TensorListStack" and operation.outputs[0].dtype == tf.uint8
    )
    run = whole.prune(feeds=[pixels], fetches=[whole.outputs[0]])
    return lambda images: run(tf.constant(images))[0].numpy()


def speed(predict: Predict, *, batch: int, seconds: float) -> dict[str, float]:
    """Call after call for `seconds`, after two calls to warm up."""
    images = seeded_images(batch, seed=0)
    for _ in range(2):
        predict(images)
    latencies = []
    began = time.perf_counter()
    while (before := time.perf_counter()) < began + seconds:
        predict(images)
        latencies.append((time.perf_counter() - before) * 1e3)
    elapsed = time.perf_counter() - began
    return {"images_per_second": batch * len(latencies) / elapsed, "p50_ms": percentile(sorted(latencies), 0.5)}


def answers(predict: Predict, *, count: int, noise: bool) -> NDArray[np.float32]:
    """Probabilities of seeded images; with `noise` every value is off by a random -1, 0 or 1 of 255."""
    images = seeded_images(count, seed=0)
    if noise:
        off = np.random.default_rng(NOISE_SEED).integers(-1, 2, images.shape, np.int16)
        images = np.clip(images + off, 0, 255).astype(np.uint8)
    batches = range(0, count, ANSWER_BATCH)
    return np.concatenate([predict(images[first : first + ANSWER_BATCH]) for first in batches])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_program", description=__doc__)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--answers", type=Path, metavar="FILE", help="write the answers there instead, as .npy")
    parser.add_argument("--images", type=int, default=500, help="of which there are answers")
    parser.add_argument("--noise", action="store_true", help="one grey level of it, on these images")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    predict = load(given.engine, threads=given.threads)
    if given.answers:
        np.save(given.answers, answers(predict, count=given.images, noise=given.noise))
    else:
        print(json.dumps(speed(predict, batch=given.batch, seconds=given.seconds)))


if __name__ == "__main__":
    main()
