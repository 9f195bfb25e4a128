"""The exported graph against the original: a model that fails this is never saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from serving.store.models import Verification
from train.errors import VerificationError

PROBABILITY_SUM_TOLERANCE = 1e-4
"""Of the sum of a row: a thousand roundings in single precision."""


def compare(
    exported: npt.NDArray[np.floating],
    original: npt.NDArray[np.floating],
    *,
    tolerance: float,
    what: str,
) -> Verification:
    """Compare probabilities of shape [N, classes], a row for each input.

    Returns the largest absolute difference, which is stored with the model.

    Raises:
        VerificationError: the difference is over `tolerance`, or the comparison could not have failed:
            shapes differ, values are not finite, or a row is not a probability distribution.
    """
    if exported.shape != original.shape or exported.ndim != 2 or exported.size == 0:
        raise VerificationError(f"{what}: shape {exported.shape} instead of {original.shape}; nothing was saved")
    check_probabilities(original, what=f"{what} (original)")
    check_probabilities(exported, what=f"{what} (exported)")
    difference = float(np.abs(exported.astype(np.float64) - original.astype(np.float64)).max())
    if difference > tolerance:
        raise VerificationError(
            f"{what}: probabilities differ by up to {difference:.3g}, more than the tolerance of {tolerance:.3g}; "
            "nothing was saved"
        )
    return Verification(inputs=len(original), max_abs_difference=difference, tolerance=tolerance)


def compare_labels(
    exported: Sequence[str],
    original: npt.NDArray[np.floating],
    labels: Sequence[str],
    *,
    margin: float,
    what: str,
) -> None:
    """Compare the label of each input with the original's probabilities, shape [N, classes].

    A label is right when no class has a probability that is higher by more than `margin`.

    Raises:
        VerificationError: names the first input whose label is wrong.
    """
    if len(exported) != len(original):
        raise VerificationError(f"{what}: {len(exported)} labels for {len(original)} inputs; nothing was saved")
    for index, (label, row) in enumerate(zip(exported, original, strict=True)):
        right = {labels[int(number)] for number in np.flatnonzero(row >= row.max() - margin)}
        if label not in right:
            best = labels[int(row.argmax())]
            raise VerificationError(f"{what}: input {index} is {label!r} instead of {best!r}; nothing was saved")


def compare_pixels(
    exported: npt.NDArray[np.uint8], original: npt.NDArray[np.uint8], *, tolerance: int, what: str
) -> None:
    """Compare images of shape [N, height, width, 3], in grey levels.

    Raises:
        VerificationError: shapes differ, or a value differs by more than `tolerance`.
    """
    if exported.shape != original.shape:
        raise VerificationError(f"{what}: images of {exported.shape} instead of {original.shape}; nothing was saved")
    difference = int(np.abs(exported.astype(np.int16) - original.astype(np.int16)).max())
    if difference > tolerance:
        raise VerificationError(
            f"{what}: decoded pixels differ by up to {difference}, more than {tolerance}; nothing was saved"
        )


def check_probabilities(values: npt.NDArray[np.floating], *, what: str) -> None:
    """Check that every row is a distribution: finite, not negative, with a sum of 1.

    Raises:
        VerificationError: it is not.
    """
    if not np.isfinite(values).all():
        raise VerificationError(f"{what}: some probabilities are not finite numbers; nothing was saved")
    if (values < 0).any() or np.abs(values.sum(axis=1) - 1).max() > PROBABILITY_SUM_TOLERANCE:
        raise VerificationError(f"{what}: the rows are not probabilities that sum to 1; nothing was saved")
