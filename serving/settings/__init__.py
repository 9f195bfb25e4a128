"""configuration.yaml, overridden by `SERVING__…` variables, as typed settings that are read once.

Unknown keys are errors in both places: a misspelt knob must not be ignored in silence. The sections are in
`serving.settings`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from serving.settings.batch import BatchSettings
from serving.settings.grpc import GrpcSettings
from serving.settings.jobs import JobsSettings
from serving.settings.model_source import ModelsSettings
from serving.settings.models import InceptionV3Settings, IrisSettings
from serving.settings.observability import LoggingSettings, MetricsSettings, TracingSettings
from serving.settings.protocols import ProtocolsSettings
from serving.settings.server import ApiSettings, ServingSettings

ENV_PREFIX = "SERVING__"
FILE_VARIABLE = "SERVING_CONFIGURATION"
DEFAULT_FILE = Path(__file__).resolve().parent.parent.parent / "configuration.yaml"


class Settings(BaseSettings):
    """All settings. Raises `pydantic.ValidationError` on unknown keys and bad values."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    serving: ServingSettings = Field(default_factory=ServingSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    models: ModelsSettings = Field(default_factory=ModelsSettings)
    iris: IrisSettings = Field(default_factory=IrisSettings)
    inception_v3: InceptionV3Settings = Field(default_factory=InceptionV3Settings)
    protocols: ProtocolsSettings = Field(default_factory=ProtocolsSettings)
    grpc: GrpcSettings = Field(default_factory=GrpcSettings)
    jobs: JobsSettings = Field(default_factory=JobsSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = Path(os.environ.get(FILE_VARIABLE, DEFAULT_FILE))
        if not file.is_file():
            raise FileNotFoundError(f"no configuration file at {file}")
        return init_settings, _StrictEnv(settings_cls), YamlConfigSettingsSource(settings_cls, file)


class _StrictEnv(EnvSettingsSource):
    """Variables of the environment; one with our prefix and an unknown section is an error, not a no-op."""

    def __call__(self) -> dict[str, Any]:
        values = super().__call__()
        for name in os.environ:
            if name.startswith(ENV_PREFIX):
                section = name[len(ENV_PREFIX) :].split("__")[0].lower()
                if section not in self.settings_cls.model_fields:
                    values[section] = os.environ[name]
        return values


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
