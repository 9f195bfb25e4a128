"""What the engines of the service in this process say, asked directly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def probabilities_of(running: Any, rows: Any) -> NDArray[Any]:
    """Those of iris for rows."""
    found: NDArray[Any] = running.models["iris"].engine.run({"features": np.array(rows, np.float32)})["probabilities"]
    return found


def pixels_of(running: Any, *files: bytes) -> NDArray[Any]:
    """Image files as the engine of InceptionV3 takes them."""
    codec = running.models["inception_v3"].codec
    (name,) = (spec.name for spec in codec.signature.inputs)
    return np.concatenate([codec._decode(file)[0][name] for file in files])
