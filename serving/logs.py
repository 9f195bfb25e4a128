"""Logging of a server process: one handler on standard output, text or JSON."""

from __future__ import annotations

import logging
import logging.config
from typing import Any

from pythonjsonlogger.msgspec import MsgspecFormatter

from serving.settings.observability import LoggingSettings

_TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def configure_logging(settings: LoggingSettings) -> None:
    """Replace what BentoML configured for this process; called once its service starts."""
    formatter: dict[str, Any] = {"()": _json_formatter} if settings.format == "json" else {"format": _TEXT}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": formatter},
            "handlers": {
                "stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "line"}
            },
            "root": {"handlers": ["stdout"], "level": "WARNING"},
            "loggers": {
                "serving": {"level": settings.level},
                "bentoml": {"level": settings.level, "handlers": [], "propagate": True},
                "uvicorn": {"level": "WARNING", "handlers": [], "propagate": True},
                # Warns of every broken form, which is the caller's to hear of.
                "python_multipart": {"level": "ERROR"},
            },
        }
    )


def _json_formatter() -> logging.Formatter:
    return MsgspecFormatter(
        ["timestamp", "levelname", "name", "message"],
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger"},
    )
