"""Settings of the server process and of what it lets in."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.settings.section import Section


class ServerSettings(Section):
    workers: Annotated[int, Field(ge=1)] = Field(
        1, description="API worker processes; each has its own engine of every model with `predict_in: api`."
    )
    strict_versions: bool = Field(
        False,
        description="Refuse to start when a library differs in major.minor from the one that made a model; "
        "otherwise it is a warning.",
    )
    request_timeout_seconds: float = Field(
        30.0,
        gt=0,
        description="A prediction that takes longer is answered with 504; X-Request-Timeout-Ms lowers it.",
    )
    drain_seconds: float = Field(
        25.0, ge=0, description="After SIGTERM, how long accepted requests may take to finish."
    )
    freeze_gc: bool = Field(
        True,
        description="Exempt what start-up allocated from garbage collection and collect the rest more rarely; "
        "shortens the longest pauses.",
    )


class ApiSettings(Section):
    max_request_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="A larger request body is answered with 413.")
