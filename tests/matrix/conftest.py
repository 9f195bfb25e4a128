"""One server with a model of every kind, each brought to it by `serving models add` alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from tests.matrix.cases import MAKE, Case
from tests.server import ROOT, Server, serving

SECONDS = 120
_ADD = [sys.executable, "-m", "serving", "models", "add"]


@dataclass(frozen=True)
class Place:
    """The server, its models by name, and what commands need to work beside it."""

    server: Server
    cases: dict[str, Case]
    directory: Path
    variables: dict[str, str]

    def command(self, *arguments: str) -> str:
        """Run `serving`; what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "serving", *arguments],
            cwd=ROOT,
            env=os.environ | self.variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def cases() -> dict[str, Case]:
    return {name: make() for name, make in MAKE.items()}


@pytest.fixture(scope="session")
def place(cases: dict[str, Case], model_store: Path) -> Iterator[Place]:
    with TemporaryDirectory(prefix="matrix-") as temporary:
        directory = Path(temporary)
        home = directory / "home"
        shutil.copytree(model_store / "models" / "iris", home / "models" / "iris")
        configuration = directory / "configuration.yaml"
        # One has a runner of its own and the others share one, and one is computed in the API.
        entries: dict[str, dict[str, str]] = {name: {"runner": "shared"} for name in cases}
        entries |= {"iris": {"predict_in": "api", "runner": "shared"}, "wine": {}}
        configuration.write_text(yaml.safe_dump({"models": entries, "default_model": "wine"}))
        variables = {
            "BENTOML_HOME": str(home),
            "SERVING_CONFIGURATION": str(configuration),
            "SERVING__BATCH__DATABASE_URL": f"sqlite:///{directory}/batch.db",
            "SERVING__BATCH__IMAGE_ROOT": str(directory),
        }
        for case in cases.values():
            (directory / f"{case.name}.png").write_bytes(case.image)
            added = subprocess.run(
                [*_ADD, str(case.write(directory)), "--name", case.name, *case.options],
                cwd=ROOT,
                env=os.environ | variables,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
            assert added.returncode == 0, added.stderr
        jobs = {"SERVING__JOBS__URL": f"sqlite:///{directory}/jobs.db", "SERVING__JOBS__EMBEDDED_WORKER": "true"}
        with serving(SERVING__GRPC__ENABLED="true", **variables, **jobs) as server:
            found = Place(server, cases, directory, variables)
            found.command("batch", "init")
            yield found
