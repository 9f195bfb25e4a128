"""Settings of models that come from outside the store."""

from __future__ import annotations

from pydantic import Field

from serving.settings.section import Section


class ModelSourceSettings(Section):
    source: str | None = Field(
        None,
        description="Directory or `s3://bucket/prefix` with exported models, `*.bentomodel`, and the SHA-256 of "
        "each in a `.sha256` file beside it. They are served instead of the stored models of their names.",
    )
    max_bytes: int = Field(
        1_073_741_824,
        ge=1024,
        description="Most bytes of one of these files, packed and unpacked; a larger one is refused.",
    )
