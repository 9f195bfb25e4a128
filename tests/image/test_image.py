"""The real image: what is in it, and how it runs where it may do nothing.

It is built by podman from the Bento, and run with a root that cannot be written to, no capabilities, and a limit of
memory. Figures are printed: `make image-test` shows them with `-rP`.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bentoml
import httpx
import pytest
import yaml

from deploy.bento import build, describe
from deploy.image import containerize
from serving.store.lockfile import locked_versions
from serving.store.models import open_model
from tests.image import stand_in
from tests.image.podman import inspect, podman, remove_storage, run_options, use_own_storage
from tests.server import free_port
from tests.store.test_source import pack, put

BASE = "docker.io/library/python:3.11-slim-bookworm"
MOST_MEGABYTES = 350
"""Without the models, on the base above."""
READY_SECONDS = 300
pytestmark = pytest.mark.timeout(1800)
"""Packages are installed, and bytecode is compiled."""
SECURED = ("--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "--network=host")
ROW = {"data": [[5.1, 3.5, 1.4, 0.2]]}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    use_own_storage()
    try:
        try:
            podman("pull", "--quiet", BASE, timeout=300)
            yield BASE
        except AssertionError as error:
            print(f"no registry: {error}")
            yield stand_in.make_base_image()
    finally:
        if os.environ.get("IMAGE_TEST") != "keep":
            remove_storage()


@pytest.fixture(scope="module")
def version(model_store: Path) -> Iterator[str]:  # noqa: ARG001 - it has to be filled
    tag = build(version=describe())
    yield tag.partition(":")[2]
    bentoml.bentos.delete(tag)


@pytest.fixture(scope="module")
def image(base: str, version: str) -> str:
    runtime, limits = run_options(base)
    python = podman(*runtime, "run", "--rm", *limits, "--network=host", base, "python3", "--version").split()[1]
    options = [f"build-arg=PYTHON_IMAGE={base}", "isolation=chroot"]
    if base == stand_in.NAME:
        options.append(f"volume={stand_in.fetch_wheels(python)}:/wheels:ro")
    return containerize(f"model_serving:{version}", engine="podman", options=options)


class Container:
    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"

    def log(self) -> str:
        return podman("logs", self.name)

    def run(self, *command: str) -> str:
        return podman("exec", self.name, *command)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert inspect(self.name)["State"]["Running"], self.log()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(f"not ready within {READY_SECONDS} s:\n{self.log()}")

    def peak_megabytes(self) -> float:
        """Most memory that the container ever had, with what the kernel keeps of its files."""
        own = f"**/*{inspect(self.name)['Id']}*"
        for group in Path("/sys/fs/cgroup").glob(own):
            for file in ("memory.peak", "memory.max_usage_in_bytes"):
                if (group / file).exists():
                    return int((group / file).read_text()) / 1e6
        return float("nan")

    def stop(self) -> int:
        podman("kill", f"--signal={signal.SIGTERM.name}", self.name)
        return int(podman("wait", self.name, timeout=60))


@contextmanager
def running(image: str, *options: str, memory: str, **settings: str) -> Iterator[Container]:
    port = free_port()
    runtime, limits = run_options(image)
    environment = [f"--env={name}={value}" for name, value in settings.items()]
    # Health is asked by systemd, which a machine for tests need not have: the command is run below.
    given = ["run", "--detach", "--no-healthcheck", f"--memory={memory}", *SECURED, *limits, *environment, *options]
    command = ["bentoml", "serve", "/app/bento", "--host", "127.0.0.1", "--port", str(port)]
    name = podman(*runtime, *given, f"--env=SERVING__GRPC__PORT={free_port()}", image, *command).strip()
    try:
        yield Container(name, port)
    finally:
        podman("rm", "--force", "--time=5", name)


@pytest.fixture(scope="module")
def files(image: str) -> Iterator[Path]:
    """The root of the image's files."""
    yield Path(podman("image", "mount", image).strip())
    podman("image", "unmount", image)


def test_it_says_what_it_is(image: str, version: str) -> None:
    found = inspect(image)
    labels = found["Labels"]
    recorded = bentoml.bentos.get(f"model_serving:{version}").info
    assert labels["org.opencontainers.image.version"] == version
    assert labels["org.opencontainers.image.revision"] == recorded.labels["revision"]
    assert {labels["model-serving.iris"], labels["model-serving.inception_v3"]} == {
        str(model.tag) for model in recorded.all_models
    }
    assert found["Config"]["User"] == "1034:1034"
    assert found["Config"]["StopSignal"] == "SIGTERM"
    assert found["Healthcheck"]["Test"][0] == "CMD"


def test_it_is_small(image: str, base: str, files: Path) -> None:
    models = sum(file.stat().st_size for file in (files / "app/bentoml/models").rglob("*") if file.is_file())
    total, below = (inspect(name)["Size"] / 1e6 for name in (image, base))
    print(f"{total:.0f} MB, of them {below:.0f} MB {base} and {models / 1e6:.0f} MB models")
    assert total - models / 1e6 <= MOST_MEGABYTES


def test_it_has_nothing_that_it_does_not_need(files: Path) -> None:
    (packages,) = (files / "app/venv/lib").glob("python3*/site-packages")
    names = {path.name.lower() for path in packages.iterdir()}
    assert [name for name in names if name.startswith(("tensorflow", "keras", "sklearn", "scikit"))] == []
    assert names & {"pip", "setuptools", "uv"} == set()
    installed = {path.name.partition("-")[0].lower().replace("_", "-") for path in packages.glob("*.dist-info")}
    assert {name.replace(".", "-") for name in installed} <= {*locked_versions(), "async-timeout"}
    programs = {
        path.name for folder in ("usr/bin", "usr/local/bin", "app/venv/bin") for path in (files / folder).glob("*")
    }
    assert programs & {"gcc", "cc", "g++", "make", "git", "uv", "ld", "strip"} == set()
    ours = {path.name for path in (files / "app/bento/src").iterdir()}
    assert ours & {"tests", "train", "deploy", "benchmarks", ".git"} == set()


@pytest.fixture
def replacement(tmp_path: Path) -> Path:
    """The iris model under another version, as an operator would mount it."""
    model = open_model("iris:latest")
    files = {file.name: file.read_bytes() for file in model.path.iterdir()}
    files["model.yaml"] = files["model.yaml"].replace(model.tag.partition(":")[2].encode(), b"replaced")
    directory = tmp_path / "models"
    directory.mkdir()
    put(directory, pack(files))
    for path in (directory, *directory.iterdir()):
        path.chmod(0o755)
    return directory


def test_iris_alone_runs_in_512_megabytes_with_a_model_that_is_mounted(
    image: str, version: str, replacement: Path
) -> None:
    settings = {"SERVING__MODELS__INCEPTION_V3__ENABLED": "false", "SERVING__MODEL_SOURCE__SOURCE": "/mnt/models"}
    with running(image, f"--volume={replacement}:/mnt/models:ro", memory="512m", **settings) as container:
        container.wait_until_ready()
        assert httpx.get(f"{container.url}/iris/metadata", timeout=30).json()["tag"] == "iris:replaced"
        answer = httpx.post(f"{container.url}/iris/predict", json=ROW, timeout=30).json()
        assert answer["prediction"][0][0] == pytest.approx(0.974, abs=1e-3)
        with httpx.Client(base_url=container.url, timeout=30) as client:
            for _ in range(500):
                client.post("/iris/predict", json=ROW).raise_for_status()
        inventory = httpx.get(f"{container.url}/inventory", timeout=60).json()
        assert inventory["service"]["version"] == version
        assert json.loads(container.run("serving", "inventory", "--json"))["service"] == inventory["service"]
        status = container.run("cat", "/proc/self/status")
        assert "CapEff:\t0000000000000000" in status
        assert "CapBnd:\t0000000000000000" in status
        assert container.run("id", "-u").strip() == "1034"
        assert inspect(container.name)["HostConfig"]["Memory"] == 512 * 1024**2
        with pytest.raises(AssertionError, match="Read-only file system"):
            container.run("touch", "/app/x")
        print(f"iris alone: peak {container.peak_megabytes():.0f} MB")
        assert container.stop() == 0, container.log()


def test_both_models_run_and_the_document_is_that_of_the_bento(image: str, version: str, files: Path) -> None:
    with running(image, memory="1g") as container:
        container.wait_until_ready()
        for model in ("iris", "inception_v3"):
            httpx.get(f"{container.url}/{model}/predict/test", timeout=60).raise_for_status()
        document = httpx.get(f"{container.url}/docs.json").json()
        assert document == yaml.safe_load((files / "app/bento/apis/openapi.yaml").read_text())
        assert document["info"]["version"] == version
        inventory = httpx.get(f"{container.url}/inventory", timeout=60).json()
        recorded = json.loads((files / "app/bento/src/inventory.json").read_text())
        assert inventory["models"] == recorded["models"]
        port = container.url.rpartition(":")[2]
        probe = inspect(image)["Healthcheck"]["Test"][1:]
        container.run(*(word.replace(":3000", f":{port}") for word in probe))
        with pytest.raises(AssertionError, match="refused"):
            container.run(*(word.replace(":3000", f":{free_port()}") for word in probe))
        print(f"both models: peak {container.peak_megabytes():.0f} MB")
        assert container.stop() == 0, container.log()
