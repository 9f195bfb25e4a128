"""`python -m tests.docs.generated` (`make docs`): write the tables of README.md that the code is the source of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import click
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from benchmarks.results import replace_section
from serving.commands import exits
from serving.metrics import Metrics
from serving.settings import Settings
from tests.docs import programs, readme
from tests.docs.settings import section_of


def _table(header: list[str], rows: Iterator[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def settings_table() -> str:
    """Every key with its default, what it may be, and its description."""
    return _table(["key", "default", "allowed", "meaning"], _settings_rows(Settings, ""))


def _settings_rows(section: type[BaseModel], path: str) -> Iterator[list[str]]:
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        inner = section_of(field)
        if inner:
            yield from _settings_rows(inner[0], f"{path}{name}{inner[1]}")
        else:
            default = field.get_default(call_default_factory=True)
            yield [f"`{path}{name}`", f"`{_yaml(default)}`", _allowed(properties[name]), field.description or ""]


def _yaml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return str(value)


def _allowed(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return ", ".join("empty" if choice["type"] == "null" else _allowed(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "array":
        return f"list of {_allowed(schema['items'])}"
    if schema["type"] == "boolean":
        return "`true`, `false`"
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']:g} to {schema['maximum']:g}"
    bounds = {"minimum": "at least", "exclusiveMinimum": "more than"}
    limits = [f"{words} {schema[bound]:g}" for bound, words in bounds.items() if bound in schema]
    return "; ".join([{"string": "text", "integer": "whole number", "number": "number"}[schema["type"]], *limits])


def metrics_table() -> str:
    """Every metric with its type, labels and help text."""
    registry = CollectorRegistry()
    Metrics(service_name="", service_version="", runner_name="", duration_buckets=[1.0], registry=registry)
    return _table(["metric", "type", "labels", "meaning"], _metrics_rows(registry))


def _metrics_rows(registry: CollectorRegistry) -> Iterator[list[str]]:
    for collector in sorted(registry._collector_to_names, key=lambda found: found._name):
        (metric,) = collector.collect()
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)
        yield [f"`{name}`", metric.type, labels, metric.documentation]


def targets_table() -> str:
    """Every target of the Makefile."""
    return _table(["command", "what it does"], ([f"`make {name}`", does] for name, does in programs.targets().items()))


def commands_table() -> str:
    """Every command of `serving`."""
    return _table(["command of `serving`", "what it does"], _commands_rows())


def _commands_rows() -> Iterator[list[str]]:
    for name, command in programs.serving_commands().items():
        arguments = [
            parameter.make_metavar(click.Context(command))
            for parameter in command.params
            if isinstance(parameter, click.Argument)
        ]
        summary, _, rest = (command.help or "").partition("\n\n")
        yield [f"`{' '.join([name, *arguments])}`", " ".join(f"{summary} {rest}".split())]


def options_table() -> str:
    """Every option of every command of `serving`; one that several have in the same words stands there once."""
    commands: dict[tuple[str, str], list[str]] = {}
    for name, command in programs.serving_commands().items():
        for described in programs.serving_options(command).items():
            commands.setdefault(described, []).append(f"`{name.removeprefix('serving ')}`")
    return _table(
        ["option", "commands", "meaning"],
        ([f"`{option}`", ", ".join(names), meaning] for (option, meaning), names in commands.items()),
    )


def exits_table() -> str:
    """Every exit status of `serving`."""
    return _table(["exit status", "meaning"], ([str(status), meaning] for status, meaning in exits.MEANING.items()))


PARTS = {
    "configuration": settings_table,
    "metrics": metrics_table,
    "targets": targets_table,
    "commands": commands_table,
    "options": options_table,
    "exits": exits_table,
}


def current(text: str) -> str:
    """`text` with every generated part as the code has it now."""
    for name, table in PARTS.items():
        text = replace_section(text, name, table())
    return text


def main() -> int:
    text = readme.text()
    readme.README.write_text(current(text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
