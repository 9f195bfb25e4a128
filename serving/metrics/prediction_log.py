"""One log line for each prediction, whichever protocol it came by."""

from __future__ import annotations

import logging

logger = logging.getLogger("serving.prediction")


def log_prediction(endpoint: str, *, status: int | str, model: str, size: str, seconds: float, request_id: str) -> None:
    """Write it.

    Args:
        endpoint: template of the route, or name of the method.
        status: as its protocol names it.
        model: tag of the model.
        size: what was predicted, as `rows=3`.
    """
    milliseconds = round(seconds * 1e3, 3)
    logger.info(
        "%s status=%s model=%s %s ms=%s request_id=%s",
        endpoint,
        status,
        model,
        size,
        milliseconds,
        request_id,
        extra={
            "endpoint": endpoint,
            "status": status,
            "model": model,
            "size": size,
            "milliseconds": milliseconds,
            "request_id": request_id,
        },
    )
