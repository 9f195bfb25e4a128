"""`make serve`, the first command of README.md, until it answers. It is run on every Python that README.md names."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from serving.client import Predictor
from tests.pictures import encoded, picture
from tests.server import ROOT, STOP_SECONDS, Server, free_port

ROW = [5.1, 3.5, 1.4, 0.2]


class MakeServe:
    """`make serve` as somebody runs it in a terminal, on the same two free ports each time."""

    def __init__(self, home: Path, directory: Path) -> None:
        # Not the options of a make that runs these tests.
        inherited = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS")}
        self._environment = inherited | {
            "BENTOML_HOME": str(home),
            "SERVING__JOBS__URL": f"sqlite:///{directory}/jobs.db",
            "SERVING__JOBS__EMBEDDED_WORKER": "true",
            "SERVING__GRPC__ENABLED": "true",
            "SERVING__GRPC__PORT": str(free_port()),
        }
        self._log = directory / "log"
        self._port = free_port()

    def start(self) -> Server:
        venv = os.path.relpath(sys.prefix, ROOT)
        with self._log.open("wb") as output:
            process = subprocess.Popen(
                # Whatever these tests run in is installed, also if make did not do it.
                ["make", f"--old-file={venv}/.installed", "serve", f"PORT={self._port}", f"VENV={venv}", "PYTHON="],
                cwd=ROOT,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.server = Server(process, self._port, self._log, f"127.0.0.1:{self._environment['SERVING__GRPC__PORT']}")
        self.server.wait_until_ready()
        return self.server

    def press_ctrl_c(self) -> None:
        """As a terminal does: what is in the foreground is interrupted. Returns when no process is left."""
        processes = self._processes()
        os.killpg(self.server.process.pid, signal.SIGINT)
        self.server.process.wait(STOP_SECONDS)
        _, left = psutil.wait_procs(processes, STOP_SECONDS)
        assert left == [], self.server.log()

    def end(self) -> None:
        processes = self._processes()
        try:
            if processes:
                self.press_ctrl_c()
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):  # which is how it should be
                    process.kill()

    def _processes(self) -> list[psutil.Process]:
        """All of them: workers have sessions of their own, and a signal to the foreground does not reach them."""
        if self.server.process.poll() is not None:
            return []
        make = psutil.Process(self.server.process.pid)
        return [*make.children(recursive=True), make]


@pytest.fixture(scope="module")
def made(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeServe]:
    """Iris is not in the store. InceptionV3 is, as its export takes a minute: whichever Python has made it."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(model_store / "models" / "inception_v3", home / "models" / "inception_v3")
    command = MakeServe(home, tmp_path_factory.mktemp("serve"))
    try:
        command.start()
        yield command
    finally:
        command.end()


def test_a_missing_model_is_trained_with_what_is_installed(made: MakeServe) -> None:
    log = made.server.log()
    assert "iris: saved iris:" in log
    assert "inception_v3:latest is in the model store" in log
    metadata = httpx.get(f"{made.server.url}/iris/metadata", timeout=60).json()
    assert metadata["trained"] is True
    assert metadata["library_versions"].items() >= {("python", platform.python_version()), ("numpy", np.__version__)}


@pytest.mark.parametrize(("protocol", "transport"), [("native", "rest"), ("v2", "grpc")])
def test_both_models_predict(made: MakeServe, protocol: Any, transport: Any) -> None:
    target = made.server.grpc_target if transport == "grpc" else made.server.url
    with Predictor(target, protocol=protocol, transport=transport, timeout=60) as predictor:
        (species,) = predictor.predict("iris", rows=[ROW])
        (classes,) = predictor.predict("inception_v3", images=[encoded(picture(), "PNG")], top_k=3)
    assert species.label == "setosa"
    assert sum(each.probability for each in species.candidates) == pytest.approx(1, abs=1e-5)
    probabilities = [each.probability for each in classes.candidates]
    assert len(probabilities) == 3
    assert 1 >= probabilities[0] >= probabilities[1] >= probabilities[2] > 0


def test_after_ctrl_c_it_starts_again(made: MakeServe) -> None:
    made.press_ctrl_c()
    assert "Traceback" not in made.server.log()
    server = made.start()
    assert "iris:latest is in the model store" in server.log()
    answer = httpx.post(f"{server.url}/iris/predict/label", json={"data": [ROW]}, timeout=60)
    assert (answer.status_code, answer.json()) == (200, {"prediction": ["setosa"]})
