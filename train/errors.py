"""What ends a training script with one line instead of a traceback."""

from __future__ import annotations


class TrainingError(Exception):
    """The model cannot be made or must not be saved; the message says why and what to do."""


class VerificationError(TrainingError):
    """The exported graph does not compute what the original computes."""


class WeightsUnavailableError(TrainingError):
    """The weights asked for cannot be had here, for example without a network."""
