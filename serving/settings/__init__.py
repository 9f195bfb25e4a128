"""configuration.yaml, overridden by `SERVING__…` variables, as typed settings that are read once.

Unknown keys are errors in both places: a misspelt setting must not be ignored in silence.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from serving.settings.batch import BatchSettings
from serving.settings.grpc import GrpcSettings
from serving.settings.jobs import JobsSettings
from serving.settings.model_source import ModelSourceSettings
from serving.settings.models import Entry, ModelName, ModelSettings
from serving.settings.observability import LoggingSettings, MetricsSettings, TracingSettings
from serving.settings.protocols import ProtocolsSettings
from serving.settings.recorded import pin, recorded_tags
from serving.settings.renamed import refuse_renamed
from serving.settings.server import ApiSettings, ServerSettings

ENV_PREFIX = "SERVING__"
FILE_VARIABLE = "SERVING_CONFIGURATION"
SOURCE = Path(__file__).resolve().parent.parent.parent
"""What `service.py` and `configuration.yaml` are in: the repository, or `src` of a Bento."""
DEFAULT_FILE = SOURCE / "configuration.yaml"


class Settings(BaseSettings):
    """All settings. Raises `pydantic.ValidationError` on unknown keys and bad values."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    server: ServerSettings = Field(default_factory=ServerSettings)
    api: ApiSettings = Field(default_factory=ApiSettings)
    model_source: ModelSourceSettings = Field(default_factory=ModelSourceSettings)
    models: dict[ModelName, Entry] = Field({}, description="The models, by the name that stands in routes and metrics.")
    default_model: str = Field("", description="The model that `/predict` and the other routes without a name ask.")
    protocols: ProtocolsSettings = Field(default_factory=ProtocolsSettings)
    grpc: GrpcSettings = Field(default_factory=GrpcSettings)
    jobs: JobsSettings = Field(default_factory=JobsSettings)
    batch: BatchSettings = Field(default_factory=BatchSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed(cls, values: Any) -> Any:
        refuse_renamed(values)
        return values

    @field_validator("models")
    @classmethod
    def _fill_in_tags(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        return {name: each.model_copy(update={"tag": each.tag or f"{name}:latest"}) for name, each in models.items()}

    @model_validator(mode="after")
    def _default_model_is_there(self) -> Settings:
        if self.default_model and self.default_model not in self.models:
            raise ValueError(f"default_model: there is no model {self.default_model} below models")
        return self

    @property
    def served(self) -> dict[str, ModelSettings]:
        """The entries that are enabled, by name, in the order of the configuration."""
        return {name: entry for name, entry in self.models.items() if entry.enabled}

    @property
    def runners(self) -> dict[str, dict[str, ModelSettings]]:
        """The models of each runner service, by its name."""
        found: dict[str, dict[str, ModelSettings]] = {}
        for name, entry in self.served.items():
            found.setdefault(f"{entry.runner or name}_runner", {})[name] = entry
        return found

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
        return init_settings, _StrictEnv(settings_cls), _File(settings_cls, file)


class _File(YamlConfigSettingsSource):
    """The file. In a Bento, an entry that names no version means the one that the Bento was built with."""

    def __call__(self) -> dict[str, Any]:
        try:
            return pin(super().__call__(), recorded_tags(SOURCE))
        except ValueError as error:
            raise SettingsError(str(error)) from error


class _StrictEnv(EnvSettingsSource):
    """Variables of the environment; one with our prefix and an unknown section is an error and not ignored."""

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
