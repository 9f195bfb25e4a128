"""Settings of the standard protocols over HTTP."""

from __future__ import annotations

from pydantic import Field

from serving.settings.section import Section


class ProtocolsSettings(Section):
    tfserving: bool = Field(True, description="Serve TensorFlow Serving's REST API below `/v1`.")
    v2: bool = Field(True, description="Serve the Open Inference Protocol's REST API below `/v2`.")
