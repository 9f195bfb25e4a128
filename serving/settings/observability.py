"""Settings of log, metrics and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.settings.section import Section


class LoggingSettings(Section):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is written.")
    format: Literal["text", "json"] = Field("text", description="One line of text or one JSON object per record.")
    predictions: bool = Field(True, description="Write one line for each prediction.")


class MetricsSettings(Section):
    duration_buckets: list[float] = Field(
        [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0],
        min_length=1,
        description="Upper bounds of the latency histogram, in seconds.",
    )


class TracingSettings(Section):
    exporter: Literal["none", "otlp"] = Field("none", description="Where spans go; `none` costs nothing.")
    endpoint: str = Field("http://127.0.0.1:4318/v1/traces", description="OTLP/HTTP endpoint of the collector.")
    sample_rate: float = Field(1.0, ge=0, le=1, description="Share of requests that are traced.")
