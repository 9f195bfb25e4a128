"""The `serving` command, against a stand-in of the API and, for what a terminal sees, in a pseudo-terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serving import __version__
from serving.cli import main
from serving.commands import exits, text
from serving.jobs import supervisor
from tests.jobs_stand_in import DROP, Busy, StandIn, describe, done, failed
from tests.server import free_port

ROWS = "[[5.1, 3.5, 1.4, 0.2]]"
RESULT = {"prediction": [[0.9, 0.05, 0.05]]}
ANSWER = '{"prediction":[[0.9,0.05,0.05]]}'
SERVING = [sys.executable, "-m", "serving"]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    with StandIn() as running:
        monkeypatch.setenv("SERVING_URL", running.url)
        yield running


class Run:
    """`serving …` in this process: exit status and the lines of both outputs."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[str], list[str]]:
        status = main(arguments)
        output, errors = self._capsys.readouterr()
        return status, output.splitlines(), errors.splitlines()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_submit_prints_the_id(api: StandIn, run: Run) -> None:
    assert run("jobs", "submit", "iris", "--rows", ROWS, "--max-retries", "1", "--ttl", "9") == (0, ["job-1"], [])
    (asked,) = api.asked
    assert (asked.path, asked.query) == ("/iris/jobs", {"max_retries": "1", "ttl_seconds": "9.0"})
    assert json.loads(asked.body) == {"data": [[5.1, 3.5, 1.4, 0.2]]}
    assert run("jobs", "submit", "iris", "--rows", ROWS, "--json")[1] == [
        '{"job_id":"job-2","status":"queued","model":"iris"}'
    ]


@pytest.mark.parametrize("content", [ROWS, f'{{"data": {ROWS}}}'])
def test_rows_from_a_file_or_standard_input(
    api: StandIn, run: Run, content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(content)
    assert run("jobs", "submit", "iris", "--file", str(file))[0] == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert run("jobs", "submit", "iris", "--file", "-")[0] == 0
    assert [json.loads(asked.body) for asked in api.asked] == [{"data": [[5.1, 3.5, 1.4, 0.2]]}] * 2


def test_each_image_is_a_job(api: StandIn, run: Run, tmp_path: Path) -> None:
    arguments = ["jobs", "submit", "inception_v3", "--top-k", "5"]
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(name.encode())
        arguments += ["--image", str(tmp_path / name)]
    assert run(*arguments) == (0, ["job-1", "job-2"], [])
    assert [(asked.body, asked.query) for asked in api.asked] == [
        (b"a.jpg", {"top_k": "5"}),
        (b"b.jpg", {"top_k": "5"}),
    ]


@pytest.mark.parametrize("wait", [False, True])
def test_jobs_before_one_that_is_refused_are_told_of(api: StandIn, run: Run, tmp_path: Path, wait: bool) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"a")
    api.faults.extend([None, Busy(400)])
    arguments = ["--image", str(file)] * 2 + ["--wait"] * wait
    status, output, errors = run("jobs", "submit", "inception_v3", *arguments)
    assert (status, output) == (exits.SERVER, [] if wait else ["job-1"])
    assert errors == ["serving: submitted before that: job-1"] * wait + ["serving: too much to do (400 overloaded)"]


def test_submit_and_wait_prints_the_result(api: StandIn, run: Run) -> None:
    api.job("job-1", "queued", {"status": "running", "attempts": 1}, done(RESULT))
    status, output, errors = run("jobs", "submit", "iris", "--rows", ROWS, "--wait")
    assert (status, output) == (0, [f"job-1 succeeded {ANSWER}"])
    assert errors == ["job-1 iris queued", "job-1 iris running", "job-1 iris succeeded after 1.5 s"]


def test_a_key_is_passed_on(api: StandIn, run: Run) -> None:
    for _ in range(2):
        assert run("jobs", "submit", "iris", "--rows", ROWS, "--idempotency-key", "mine")[1] == ["job-1"]
    assert api.asked[0].headers["idempotency-key"] == "mine"


def test_wait_tells_of_each_job_in_order(api: StandIn, run: Run) -> None:
    api.job("a", "queued", "queued", done(1))
    api.job("b", failed("invalid_image", "the file is\n\x1b[31mdamaged"))
    api.job("c", "expired")
    api.job("d", "cancelled")
    status, output, _ = run("jobs", "wait", "a", "b", "c", "d", "a")
    assert status == exits.FAILED
    assert output == [
        "a succeeded 1",
        "b failed the file is  [31mdamaged (invalid_image)",
        "c expired",
        "d cancelled",
    ]
    status, output, _ = run("jobs", "wait", "--json", "a")
    assert (status, json.loads(output[0])["result"]) == (0, 1)


def test_wait_outlasts_an_outage_and_says_so_once(api: StandIn, run: Run) -> None:
    api.job("a", "queued", done(RESULT))
    api.faults.extend([None, DROP, Busy(503, "0"), Busy(503, "0")])
    status, output, errors = run("jobs", "wait", "a")
    assert (status, output) == (0, [f"a succeeded {ANSWER}"])
    assert len([line for line in errors if line.endswith("trying again")]) == 2


def test_the_time_to_wait_ends(api: StandIn, run: Run) -> None:
    api.job("a", done(RESULT))
    api.job("b", "running")
    status, output, errors = run("jobs", "wait", "a", "b", "--timeout", "0.2")
    assert (status, output) == (exits.TIMED_OUT, [f"a succeeded {ANSWER}"])
    assert errors[-1] == "serving: not finished within 0.2 s: b"


def test_status_tells_everything(api: StandIn, run: Run) -> None:
    api.job("a", {"status": "queued", "position": 3})
    api.job("b", done(RESULT))
    status, output, _ = run("jobs", "status", "a", "b")
    assert status == 0
    assert output == [
        "job        a",
        "model      iris",
        "status     queued 3 before it",
        "attempts   0 of at most 4",
        "submitted  2026-11-21 12:00:00Z",
        "expires    2026-11-21 12:05:00Z",
        "",
        "job        b",
        "model      iris",
        "status     succeeded after 1.5 s",
        "attempts   1 of at most 4",
        "submitted  2026-11-21 12:00:00Z",
        "started    2026-11-21 12:00:00Z",
        "finished   2026-11-21 12:00:01Z",
        f"result     {ANSWER}",
    ]
    assert json.loads(run("jobs", "status", "--json", "b")[1][0])["result"] == RESULT


def test_a_job_that_failed_is_no_failure_of_status(api: StandIn, run: Run) -> None:
    api.job("a", failed("invalid_image", "the file is damaged"))
    status, output, _ = run("jobs", "status", "a")
    assert (status, output[-1]) == (0, "error      the file is damaged (invalid_image)")


def test_a_job_between_two_attempts(api: StandIn, run: Run) -> None:
    waits = {"attempts": 1, "next_attempt_at": "2026-11-21T12:00:08Z"}
    api.job("a", {**waits, "error": {"code": "internal_error", "message": "it failed"}})
    output = run("jobs", "status", "a")[1]
    assert "status     queued waits for attempt 2" in output
    assert "next try   2026-11-21 12:00:08Z" in output


def test_cancel_and_retry(api: StandIn, run: Run) -> None:
    api.job("a", "queued")
    api.job("b", "expired")
    assert run("jobs", "cancel", "a") == (0, ["a cancelled"], [])
    assert run("jobs", "retry", "b") == (0, ["b queued"], [])
    assert run("jobs", "cancel", "a") == (exits.SERVER, [], ["serving: the job is past that (409 conflict)"])


def test_list(api: StandIn, run: Run) -> None:
    jobs = [describe("new", **failed("invalid_image", "damaged")), describe("older", **done(None))]
    api.pages[""] = {"jobs": jobs, "next": "more"}
    status, output, _ = run("jobs", "list", "--status", "failed", "--model", "iris", "--limit", "2")
    assert status == 0
    assert output == [
        "JOB    MODEL  STATUS     ATTEMPTS  SUBMITTED             ERROR",
        "new    iris   failed     4         2026-11-21 12:00:00Z  damaged (invalid_image)",
        "older  iris   succeeded  1         2026-11-21 12:00:00Z",
    ]
    assert api.asked[0].query == {"status": "failed", "model": "iris", "limit": "2"}
    lines = run("jobs", "list", "--json", "--limit", "2")[1]
    assert [json.loads(line)["job_id"] for line in lines] == ["new", "older"]


def test_stats(api: StandIn, run: Run) -> None:
    figures = {"oldest_queued_seconds": 75.2, "queued_bytes": 16, "finished_per_second": 0.25}
    api.stats = {"models": {"iris": {"counts": {"queued": 12, "failed": 2}, **figures}}}
    assert run("jobs", "stats")[1] == [
        "MODEL  QUEUED  RUNNING  SUCCEEDED  FAILED  EXPIRED  CANCELLED  OLDEST QUEUED  FINISHED/S",
        "iris   12      0        0          2       0        0          1:15 min       0.25",
    ]
    shown = json.loads(run("jobs", "stats", "--json")[1][0])
    assert shown["iris"]["counts"]["queued"] == 12
    assert shown["iris"]["queued_bytes"] == 16


@pytest.mark.parametrize(
    "arguments",
    [
        "jobs submit iris",
        "jobs submit iris --rows [[1]] --file -",
        "jobs submit iris --rows nonsense",
        "jobs submit iris --rows 1",
        "jobs submit iris --rows [[NaN]]",
        "jobs submit iris --rows [[1]] --top-k 3",
        "jobs submit iris --rows [[1]] --timeout 3",
        "jobs submit iris --rows [[1]] --ttl 0",
        "jobs submit inception_v3 --image no-such-file",
        "jobs submit inception_v3 --image configuration.yaml --image configuration.yaml --idempotency-key x",
        "jobs wait",
        "jobs status a/b",
        "jobs list --status dreaming",
        "jobs stats --url localhost:3000",
        "jobs frobnicate",
        "worker --concurrency 0",
        "worker --port 70000",
    ],
)
def test_wrong_usage_is_one_line_and_status_2(api: StandIn, run: Run, arguments: str) -> None:
    status, output, errors = run(*arguments.split())
    assert (status, output, len(errors)) == (exits.USAGE, [], 1), errors
    assert errors[0].startswith("serving: ")
    assert api.asked == []


def test_no_command_is_wrong_usage_with_help(run: Run) -> None:
    status, _, errors = run()
    assert status == exits.USAGE
    assert any("worker" in line for line in errors)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "a"],
        ["wait", "a"],
        ["cancel", "a"],
        ["retry", "a"],
        ["list"],
        ["stats"],
        ["submit", "iris", "--rows", ROWS],
        ["submit", "iris", "--rows", ROWS, "--wait"],
    ],
)
def test_no_server_is_one_line_and_status_3(run: Run, arguments: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    status, output, errors = run("jobs", *arguments, "--url", url, "--retry-for", "0")
    assert (status, output, len(errors)) == (exits.SERVER, [], 1)
    assert errors[0].startswith(f"serving: {url} cannot be reached")


def test_an_error_of_the_server_is_one_line_and_status_3(api: StandIn, run: Run) -> None:
    api.faults.append(Busy(400, body=b'{"error":{"code":"invalid_input","message":"data[0]:\\nno","details":[]}}'))
    assert run("jobs", "submit", "iris", "--rows", ROWS) == (
        exits.SERVER,
        [],
        ["serving: data[0]: no (400 invalid_input)"],
    )


def test_version(run: Run) -> None:
    assert run("--version") == (0, [f"serving {__version__}"], [])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.04 s"), (7.04, "7.0 s"), (59.94, "59.9 s"), (60, "1:00 min"), (3599, "59:59 min"), (3723, "1:02:03")],
)
def test_durations(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_the_worker_gets_its_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def supervise(**options: Any) -> int:
        given.append(options)
        return 7

    monkeypatch.setattr(supervisor, "supervise", supervise)
    assert run("worker")[0] == 7
    assert run("worker", "--model", "iris", "--model", "iris", "--concurrency", "2", "--port", "0")[0] == 7
    assert given == [
        {"models": [], "concurrency": 1, "port": None},
        {"models": ["iris"], "concurrency": 2, "port": 0},
    ]


def test_a_worker_that_cannot_start_says_why(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from serving.core.errors import ConfigurationError
    from serving.settings import get_settings

    def refuse(**_: Any) -> int:
        raise ConfigurationError("jobs.url: no such store")

    # A process of its own, whose logging it may take over.
    done = subprocess.run([*SERVING, "worker", "--model", "no_such_model"], capture_output=True, text=True, check=False)
    assert done.returncode == exits.FAILED
    assert "no_such_model" in done.stderr
    monkeypatch.setattr(supervisor, "supervise", refuse)
    assert run("worker") == (exits.FAILED, [], ["serving: jobs.url: no such store"])
    for name, value, fault in (
        ("SERVING_CONFIGURATION", str(tmp_path / "absent.yaml"), "no configuration file"),
        ("SERVING__JOBS__LEASE_SECONDS", "secret", "jobs.lease_seconds: "),
    ):
        get_settings.cache_clear()
        with monkeypatch.context() as patched:
            patched.setenv(name, value)
            status, _, errors = run("worker")
        get_settings.cache_clear()
        assert status == exits.FAILED
        assert fault in errors[0]
        assert "secret" not in errors[0]


def interrupt(process: subprocess.Popen[str]) -> Callable[[], None]:
    return lambda: process.send_signal(signal.SIGINT)


def test_ctrl_c_leaves_cleanly_while_waiting(api: StandIn) -> None:
    api.job("a", "running")
    with subprocess.Popen(
        [*SERVING, "jobs", "wait", "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        api.faults.extend([None, interrupt(process)])
        try:
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, output) == (exits.INTERRUPTED, "")
    assert errors.splitlines() == [
        "a iris running",
        "serving: interrupted; to go on waiting: serving jobs wait a",
    ]


def in_a_terminal(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and what the terminal got on standard error."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "24"}
    with subprocess.Popen(
        [*SERVING, *arguments], stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # Linux tells the end of a terminal so
            pass
        finally:
            os.close(ours)
        assert process.stdout is not None
        output = process.stdout.read()
        try:
            return process.wait(60), output, shown.decode()
        finally:
            process.kill()


def test_a_terminal_shows_each_job_live(api: StandIn) -> None:
    api.job("a", {"status": "queued", "position": 1}, {"status": "queued", "position": 1}, done(RESULT))
    api.job("b", failed("invalid_image", "the file is damaged [bold]"))
    status, output, shown = in_a_terminal("jobs", "wait", "a", "b")
    assert (status, output) == (1, f"a succeeded {ANSWER}\nb failed the file is damaged [bold] (invalid_image)\n")
    assert "1 before it" in shown
    end = shown[shown.rindex("a iris") :]
    assert "after 1.5 s" in end
    assert "the file is damaged [bold]" in end
    assert "2 of 2 ended" in end
    assert shown.endswith("\x1b[?25h") or "\x1b[?25h" in end, "the cursor is shown again"


def test_a_terminal_shows_counts_of_many_jobs(api: StandIn) -> None:
    ids = [api.job(f"job{number}", done(number)) for number in range(20)]
    status, output, shown = in_a_terminal("jobs", "wait", *ids)
    assert (status, len(output.splitlines())) == (0, 20)
    assert "20 of 20 ended" in shown
    assert "job7" not in shown
