"""Starting and ending with small real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

from benchmarks.load import LoadResult
from benchmarks.measurement import Plan, Point, Question, ask, load_in_turn, measure_all
from benchmarks.server import Server, ServerError, bentoml_worker, children, end, running

# Answers 200 to everything; its child is in a session of its own and does not mind SIGTERM.
PROGRAM = """
    import http.server, signal, subprocess, sys
    subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"],
        start_new_session=True,
    )
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/missing":
                self.send_error(404)
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
        do_POST = do_GET
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(program: str = PROGRAM, path: str = "/predict", **more) -> Server:
    source = textwrap.dedent(program)
    return Server("small", "a small server", lambda port: [sys.executable, "-c", source, str(port)], path, **more)


def gone(process: psutil.Process) -> bool:
    """Waits, because the kernel takes a moment; an orphan may stay a zombie where nobody reaps."""
    for _ in range(6000):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def test_a_server_is_ready_measured_and_gone_with_all_it_started():
    with running(server(workers=children)) as up:
        processes = [up.process, *up.process.children(recursive=True)]
        assert len(processes) == 2
        assert up.request("GET", "/predict", {}, b"") == (200, b"{}")
        assert 0 < up.worker_rss_mb() < up.total_rss_mb()
        assert up.start_seconds > 0
    assert all(gone(process) for process in processes)


def test_an_interrupt_ends_the_server_too():
    processes = []

    def interrupted() -> None:
        with running(server()) as up:
            processes.extend([up.process, *up.process.children(recursive=True)])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(processes) == 2
    assert all(gone(process) for process in processes)


def test_a_server_that_ends_early_says_why():
    with (
        pytest.raises(ServerError, match=r"(?s)ended with 3 before it was ready.*out of luck"),
        running(server("import sys; print('out of luck', flush=True); sys.exit(3)")),
    ):
        pytest.fail("it is not running")


def test_a_server_that_is_never_ready_is_given_up():
    with (
        pytest.raises(ServerError, match="not ready in time"),
        running(server("import time; time.sleep(300)", start_limit=0.2)),
    ):
        pytest.fail("it is not ready")


def test_a_program_that_is_not_there(tmp_path: Path):
    missing = Server("missing", "missing", lambda _: [tmp_path / "nothing"], "/")
    with pytest.raises(ServerError, match="cannot be started"), running(missing):
        pytest.fail("there is nothing to run")


def test_a_process_that_ignores_sigterm_is_killed():
    program = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True) as process:
        process.stdout.readline()
        end(process, grace=0.1)
    assert process.returncode == -signal.SIGKILL


def test_workers_of_bentoml_are_told_by_service():
    command = [sys.executable, "-c", "import time; time.sleep(300)", "_bentoml_impl.worker.service", "--service-name"]
    workers = [subprocess.Popen([*command, name]) for name in ("SomeService", "IrisRunner")]
    try:
        found = bentoml_worker("SomeService")(psutil.Process(os.getpid()))
        assert [process.pid for process in found] == [workers[0].pid]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def refuse(_answer: bytes) -> None:
    raise ValueError("not what was asked")


def test_a_wrong_answer_or_status_is_an_error():
    with running(server()) as up:
        ask(up, Question({}, b"x", check=lambda _: None))
        with pytest.raises(ServerError, match="not what was asked"):
            ask(up, Question({}, b"x", check=refuse))
        with pytest.raises(ServerError, match="answers 404"):
            ask(up, Question({}, b"x", check=lambda _: None), path="/missing")


class FakeGenerator:
    name = "fake"

    def __init__(self) -> None:
        self.loads = []

    def run(self, load):
        self.loads.append(load)
        return LoadResult(len(self.loads), 1.0, 2.0, non_2xx=0, errors=len(self.loads) == 3)


def test_one_server_that_fails_does_not_stop_the_others():
    generator = FakeGenerator()
    plan = Plan(connections=(1, 8), rounds=2, seconds=5, warm_up_seconds=1, starts=1)
    bad = Server("bad", "bad", lambda _: [sys.executable, "-c", "raise SystemExit(1)"], "/")
    outcome = measure_all([bad, server()], Question({}, b"x", check=lambda _: None), generator, plan, lambda _: None)
    assert [(load.connections, load.seconds) for load in generator.loads] == [(8, 1), (1, 5), (8, 5), (1, 5), (8, 5)]
    assert list(outcome.measurements) == ["small"]
    assert outcome.failures[0].startswith("bad ended with 1")
    assert outcome.failures[1:] == ["small c8: 0 non-2xx, 1 errors"]


def test_a_point_has_medians_extremes_and_sums():
    rounds = [LoadResult(rate, p50, p99, 1, 2) for rate, p50, p99 in [(10, 1, 30), (30, 9, 10), (20, 2, 20)]]
    assert Point.of(8, rounds) == Point(8, 20, 10, 30, 2, 20, 3, 6)


def test_servers_that_run_at_once_are_loaded_in_turn(tmp_path: Path):
    order = []

    class Generator:
        name = "fake"

        def run(self, load):
            order.append((load.url, load.connections))
            return LoadResult(100.0 * len(order), 1.0, 2.0, 0, 0)

    program = """
        import http.server, os, sys
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("X-Directory", os.getcwd())
                self.send_header("Content-Length", "0")
                self.end_headers()
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
    said = []
    with running(server(program)) as first, running(server(program, root=tmp_path)) as second:
        with urllib.request.urlopen(second.url("/")) as answer:
            assert answer.headers["X-Directory"] == str(tmp_path)
        plan = Plan((1, 8), rounds=2, seconds=1, warm_up_seconds=0)
        found = load_in_turn([first, second], Question({}, b"", lambda _: None), Generator(), plan, said.append)
        urls = [first.url(), second.url()]
    assert order == [(url, connections) for _ in range(2) for connections in (1, 8) for url in urls]
    assert [points[8].requests_per_second for points in found] == [(300 + 700) / 2, (400 + 800) / 2]
    assert len(said) == len(order)
