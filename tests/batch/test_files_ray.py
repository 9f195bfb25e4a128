"""`serving batch score-files --ray`: the same results from two engines of a Ray cluster."""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from serving.batch.files.run import plan
from serving.batch.files.scoring import PartScorer
from serving.batch.reading import FilesError
from serving.settings.models import ModelSettings
from serving.store.models import open_model
from tests import example_models
from tests.batch.files import COLUMNS, Command, Scored, table, write
from tests.server import ROOT, free_port

pytestmark = pytest.mark.slow


PORTS = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export", "ray-client-server")


STARTS = 3
"""Ray gives its own processes half a minute to start, which a busy machine may not be able to."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a private cluster of two CPUs, without dashboard and reports of usage."""
    # a short name: the path of a socket may have a hundred characters
    with (
        pytest.MonkeyPatch.context() as environment,
        TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as directory,
    ):
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_AUTH_MODE", "token")
        environment.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # A dozen Python processes are started, each of which would compile what it imports.
        environment.setenv("PYTHONPYCACHEPREFIX", str(ROOT / ".build" / "pycache"))
        environment.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        for attempt in range(STARTS):
            log = Path(directory) / f"{attempt}.log"
            process = start(log, Path(directory) / str(attempt))
            try:
                if address := started(process, log):
                    yield address
                    return
            finally:
                end(process)
        raise AssertionError(f"the cluster has not started: {log.read_text()}")


def start(log: Path, directory: Path) -> subprocess.Popen[bytes]:
    """In the foreground: it ends with what it has started."""
    ports = [f"--{name}-port={free_port()}" for name in PORTS]
    options = ["--num-cpus=2", f"--object-store-memory={100 * 2**20}", f"--temp-dir={directory}"]
    quiet = ["--include-dashboard=false", "--disable-usage-stats"]
    command = [Path(sys.executable).parent / "ray", "start", "--head", "--block", f"--port={free_port()}"]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, *ports, *quiet, *options],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """At once, with all that it has started: in good order it takes half a minute."""
    started_by_it = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for each in [process, *started_by_it]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(60)
    psutil.wait_procs(started_by_it, timeout=60)


def started(process: subprocess.Popen[bytes], log: Path) -> str | None:
    """The address as soon as the cluster is there, `None` when it has given up."""
    while process.poll() is None:
        if found := re.search(r"ray start --address='([^']+)'", log.read_text()):
            return found[1]
        time.sleep(0.05)
    return None


def command(source: Path, target: Path, *more: object) -> tuple[int, dict[str, Any], str]:
    """Exit status, summary and errors. A process of its own: Ray leaves threads and log handlers in one."""
    arguments = ["batch", "score-files", source, target, *more]
    done = subprocess.run(
        [sys.executable, "-m", "serving", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr


@pytest.mark.usefixtures("model_store")
def test_a_run_that_was_begun_here_is_finished_by_two_engines_of_a_cluster(
    cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the same results, bad rows too, as of a run on this machine alone."""
    content = table(4000)
    column = content.schema.get_field_index(COLUMNS[1])
    broken = [None if number % 100 == 0 else value for number, value in enumerate(content[COLUMNS[1]].to_pylist())]
    content = content.set_column(column, COLUMNS[1], pa.array(broken))
    source = write(tmp_path / "in" / "day=1" / "rows.parquet", content, row_group_size=1000)
    model = open_model("iris:latest")
    planned = plan(str(tmp_path / "in"), str(tmp_path / "ray"), model, part_rows=1000)
    PartScorer(planned.job, model.metadata, Scored(model).engine)(planned.parts[2])

    status, summary, errors = command(source.parents[1], tmp_path / "ray", "--ray", cluster, "--actors", 2)
    assert status == 3, errors
    assert (summary["rows"], summary["failed"], summary["parts"], summary["parts_done_before"]) == (4000, 40, 4, 1)
    assert summary["engine_seconds"] > 0
    assert Command(capsys)(source.parents[1], tmp_path / "here", "--part-rows", 1000)[0] == 3
    for number in range(4):
        name = f"day=1/part-0000{number}.parquet"
        assert pq.read_table(tmp_path / "ray" / name).equals(pq.read_table(tmp_path / "here" / name))


@pytest.mark.usefixtures("model_store")
def test_an_actor_says_which_file_is_damaged(tmp_path: Path) -> None:
    """It needs no model store, and its answer no way through Ray's errors."""
    from serving.batch.files.on_ray import Actor, graph_files

    source = write(tmp_path / "rows.parquet", table(2000), row_group_size=1000)
    model = open_model("iris:latest")
    planned = plan(str(source), str(tmp_path / "out"), model, part_rows=1000)
    content = bytearray(source.read_bytes())
    content[20:2000] = b"\xff" * 1980
    source.write_bytes(content)
    elsewhere = dataclasses.replace(model, path=tmp_path / "elsewhere")
    actor = Actor(planned.job, elsewhere, graph_files(model), ModelSettings())
    answers = [actor({name: [value] for name, value in part.as_json().items()}) for part in planned.parts]
    assert "rows.parquet" in answers[0]["error"][0]
    assert (answers[1]["error"], answers[1]["rows"]) == ([""], [1000])


def test_the_files_of_a_graph_travel_with_it_and_no_others(tmp_path: Path) -> None:
    from serving.batch.files.on_ray import graph_files

    model = example_models.regressor(tmp_path)
    (model.path / "weights").mkdir()
    (model.path / "weights" / "big.bin").write_bytes(b"123")
    (tmp_path / "secret").write_bytes(b"456")

    def files(*names: str) -> dict[str, bytes]:
        record = model.metadata.model_copy(update={"files": dict.fromkeys(names, "0" * 64)})
        return graph_files(dataclasses.replace(model, metadata=record))

    assert files("weights/big.bin") == {"model.onnx": model.onnx_path.read_bytes(), "weights/big.bin": b"123"}
    for name in ("../secret", str(tmp_path / "secret"), "weights/../../secret"):
        with pytest.raises(FilesError, match="not in the stored model"):
            files(name)
