"""The real service in this process."""

from __future__ import annotations

from tests.app import Hold, Metric, anyio_backend, app, client, drops, hold, metric, queued, running, short_timeout

__all__ = [
    "Hold",
    "Metric",
    "anyio_backend",
    "app",
    "client",
    "drops",
    "hold",
    "metric",
    "queued",
    "running",
    "short_timeout",
]
