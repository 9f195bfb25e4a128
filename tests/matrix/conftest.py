"""One server with a model of every kind, each brought to it by `serving models add` alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
import yaml

from tests.matrix.cases import MAKE, Case
from tests.server import ROOT, Server, serving

SECONDS = 300
# Several commands in one process, whose imports take longer than most of the commands.
_COMMANDS = """
import json, sys
from serving.cli import main
for arguments in json.load(sys.stdin):
    status = main(arguments)
    if status:
        sys.exit(f"serving {' '.join(arguments)}: status {status}")
"""


@dataclass(frozen=True)
class Place:
    """The server, its models by name, and what commands need to work beside it."""

    server: Server
    cases: dict[str, Case]
    directory: Path
    variables: dict[str, str]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The rows of the database, by the file of the case."""

    def commands(self, commands: Sequence[Sequence[str]]) -> None:
        """Run `serving` with each of some lists of arguments."""
        run_commands(commands, self.variables)

    def fill_database(self) -> None:
        """Post the rows of all models, and score them together."""
        self.commands([["batch", "init"]])
        ids: dict[str, list[int]] = {}
        with httpx.Client(base_url=self.server.url, timeout=60) as client:
            for case in self.cases.values():
                items = [{"model": case.name, "values": values} for values in case.values]
                added = client.post("/batch/items", json={"items": items})
                assert added.status_code == 201, added.text
                ids[case.picture] = added.json()["ids"]
            self.commands([["batch", "score"]])
            for name, found in ids.items():
                self.rows[name] = [client.get(f"/batch/items/{row}").json() for row in found]


def run_commands(commands: Sequence[Sequence[str]], variables: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMMANDS],
        input=json.dumps([list(command) for command in commands]),
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    return {name: make() for name, make in MAKE.items()}


@contextmanager
def serve(cases: dict[str, Case], entries: dict[str, dict[str, str]], iris: Path) -> Iterator[Place]:
    """A server of models that are added here, and of `iris`.

    Args:
        entries: of the configuration, by model; the others share a runner.
    """
    with TemporaryDirectory(prefix="matrix-") as temporary:
        directory = Path(temporary)
        home = directory / "home"
        shutil.copytree(iris, home / "models" / "iris")
        configuration = directory / "configuration.yaml"
        models = {case.name: case for case in cases.values()}
        all_entries = {
            "iris": {"predict_in": "api", "runner": "shared"},
            **{name: {"runner": "shared"} for name in models},
        }
        configuration.write_text(yaml.safe_dump({"models": all_entries | entries, "default_model": next(iter(models))}))
        variables = {
            "BENTOML_HOME": str(home),
            "SERVING_CONFIGURATION": str(configuration),
            "SERVING__BATCH__DATABASE_URL": f"sqlite:///{directory}/batch.db",
            "SERVING__BATCH__IMAGE_ROOT": str(directory),
        }
        for case in cases.values():
            (directory / case.picture).write_bytes(case.image)
        run_commands(
            [
                ["models", "add", str(case.write(directory)), "--name", name, *case.options]
                for name, case in models.items()
            ],
            variables,
        )
        jobs = {"SERVING__JOBS__URL": f"sqlite:///{directory}/jobs.db", "SERVING__JOBS__EMBEDDED_WORKER": "true"}
        with serving(SERVING__GRPC__ENABLED="true", **variables, **jobs) as server:
            found = Place(server, cases, directory, variables)
            found.fill_database()
            yield found


@pytest.fixture(scope="session")
def place(cases: dict[str, Case], model_store: Path) -> Iterator[Place]:
    # One has a runner of its own and the others share one, and one is computed in the API.
    with serve(cases, {"wine": {}}, model_store / "models" / "iris") as found:
        yield found
