"""`serving jobs` and `serving worker` with a real server: submitted, done by a worker of its own, waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import pytest

from serving.cli import main
from serving.client import Client, Status
from serving.commands import exits
from tests.server import ROOT, Server, free_port, serving

SERVING = [sys.executable, "-m", "serving"]
ROWS = [[5.1, 3.5, 1.4, 0.2]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The URL of a store that server and worker share."""
    with TemporaryDirectory() as directory:
        yield f"sqlite:///{directory}/jobs.db"


@pytest.fixture(scope="module")
def api(model_store: Path, store: str) -> Iterator[Server]:  # noqa: ARG001 - it has to be filled
    with serving(SERVING__JOBS__URL=store) as running:
        yield running


@contextmanager
def worker(store: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`serving worker`, until the block ends; then it has to drain and leave with 0."""
    with subprocess.Popen(
        [*SERVING, "worker", *arguments],
        cwd=ROOT,
        env=os.environ | {"SERVING__JOBS__URL": store},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output


def command(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVING, "jobs", *arguments],
        env=os.environ | {"SERVING_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_does_what_the_command_submits(api: Server, store: str, photo: bytes, tmp_path: Path) -> None:
    """Submitted before there is a worker; done by one; the results are those of `/predict`."""
    picture = tmp_path / "cat.jpg"
    picture.write_bytes(photo)
    images = command(
        api.url, "submit", "inception_v3", "--image", str(picture), "--image", str(picture), "--top-k", "2"
    )
    assert images.returncode == 0, images.stderr
    ids = images.stdout.split()
    before = command(api.url, "status", "--json", *ids)
    assert [json.loads(line)["status"] for line in before.stdout.splitlines()] == ["queued", "queued"]
    with worker(store, "--port", str(free_port())):
        rows = command(api.url, "submit", "iris", "--rows", json.dumps(ROWS), "--wait", "--timeout", "60", "--json")
        assert rows.returncode == 0, rows.stderr
        ended = command(api.url, "wait", "--timeout", "60", "--json", *ids)
        assert ended.returncode == 0, ended.stderr
    expected = httpx.post(f"{api.url}/iris/predict", json={"data": ROWS}, timeout=60).json()
    assert json.loads(rows.stdout)["result"] == expected
    expected = httpx.post(f"{api.url}/inception_v3/predict?top_k=2", files={"image": photo}, timeout=30).json()
    for line, job_id in zip(ended.stdout.splitlines(), ids, strict=True):
        job = json.loads(line)
        assert (job["job_id"], job["status"], job["attempts"]) == (job_id, "succeeded", 1)
        found, wanted = job["result"]["predictions"], expected["predictions"]
        assert [each["class_id"] for each in found] == [each["class_id"] for each in wanted]
        # Two images in one engine call may round in another way than one alone.
        assert [each["probability"] for each in found] == pytest.approx([e["probability"] for e in wanted], rel=1e-4)


def test_what_was_submitted_can_be_seen_cancelled_and_counted(
    api: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a worker, so that nothing changes by itself."""
    monkeypatch.setenv("SERVING_URL", api.url)

    def jobs(*arguments: str) -> tuple[int, str, str]:
        status = main(["jobs", *arguments])
        output = capsys.readouterr()
        return status, output.out.strip(), output.err

    submit = ("submit", "iris", "--idempotency-key", "twice", "--rows")
    job_id = jobs(*submit, json.dumps(ROWS))[1]
    assert jobs(*submit, json.dumps(ROWS)) == (0, job_id, "")
    status, _, errors = jobs(*submit, json.dumps(ROWS * 2))
    assert (status, "409 conflict" in errors) == (exits.SERVER, True)
    assert jobs("wait", job_id, "--timeout", "0.5")[0] == exits.TIMED_OUT
    assert jobs("cancel", job_id) == (0, f"{job_id} cancelled", "")
    assert jobs("wait", job_id)[0] == exits.FAILED
    assert jobs("retry", job_id)[0] == exits.SERVER
    listed = jobs("list", "--status", "cancelled", "--json")[1]
    assert [json.loads(line)["job_id"] for line in listed.splitlines()] == [job_id]
    assert json.loads(jobs("stats", "--json")[1])["iris"]["counts"]["cancelled"] == 1


def test_the_client_reads_what_the_server_writes(api: Server) -> None:
    """Every page, an image that is refused, and what an expired job looks like."""
    with Client(api.url) as client:
        ids = [client.submit("iris", rows=ROWS, ttl_seconds=0.2).id for _ in range(3)]
        assert [client.wait(job_id, timeout=30).status for job_id in ids] == [Status.EXPIRED] * 3
        found = list(client.jobs(status="expired", model="iris", limit=2))
        assert [job.id for job in found] == [ids[2], ids[1]]
        assert all(job.created_at and job.finished_at and job.finished_at >= job.created_at for job in found)
        assert client.retry(ids[0]).id == ids[0]
        assert client.get(ids[0]).position is not None
        assert client.cancel(ids[0]).status is Status.CANCELLED
