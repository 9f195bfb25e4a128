"""Settings that a command cannot begin without."""

from __future__ import annotations

import yaml
from pydantic import ValidationError
from pydantic_settings import SettingsError

from serving.core.errors import ConfigurationError
from serving.settings import Settings, get_settings


def read_settings() -> Settings:
    """The settings of this process.

    Raises:
        ConfigurationError: one line, which names the setting and not its value, as that may be a secret.
    """
    try:
        return get_settings()
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        fault = "; ".join(_describe(item["loc"], item["msg"]) for item in found)
    except yaml.YAMLError as error:
        fault = f"the file is not YAML: {error}"
    except (SettingsError, OSError) as error:
        fault = str(error)
    # Not from the error: its text has the values.
    raise ConfigurationError(f"configuration: {' '.join(fault.split())}") from None


def require_settings() -> Settings:
    """As `read_settings`; a wrong one ends the process with one line on standard error and exit code 1.

    For what a command imports: there no caller could do anything about it, and a traceback hides what to change.
    """
    try:
        return read_settings()
    except ConfigurationError as error:
        raise SystemExit(f"error: {error}") from None


def _describe(location: tuple[int | str, ...], message: str) -> str:
    """`models.iris.threads: …`; what concerns several settings names them itself."""
    path = ".".join(str(part) for part in location if part != "[key]")
    text = message.removeprefix("Value error, ")
    return f"{path}: {text}" if path else text
