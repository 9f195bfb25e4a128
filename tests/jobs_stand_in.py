"""A stand-in of the jobs API, on a real socket: it answers what a test has put down and can fail on purpose.

What the real one does is tested in tests/http and tests/e2e; here are the outages that cannot be had from it at will.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

DROP = "drop"
"""The connection ends before anything is done."""
LOSE = "lose"
"""The request has its effect and the connection ends without an answer."""


@dataclass(frozen=True)
class Busy:
    """An answer of `status` instead of the real one."""

    status: int
    retry_after: str | None = None
    body: bytes | None = None


Fault = str | Busy | Callable[[], None] | None
"""What happens to a request; a function is called before the request is answered as usual."""


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class StandIn:
    """`with StandIn() as api:` serves at `api.url`.

    Attributes:
        faults: what happens to the next requests, in order.
        answers: of a job, by id, what each GET tells in turn; the last one stays.
        pages: the answers of `GET /jobs` by cursor, "" for the first.
    """

    port: int = 0
    faults: deque[Fault] = field(default_factory=deque)
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    pages: dict[str, dict[str, Any]] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=lambda: {"models": {}})
    by_key: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler(self))
        self.server.daemon_threads = False
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def job(self, job_id: str, *states: dict[str, Any] | str) -> str:
        """Put down a job that goes through `states`: statuses, or fields of the answer."""
        described = [{"status": each} if isinstance(each, str) else each for each in states]
        self.answers[job_id] = deque(describe(job_id, **each) for each in described)
        return job_id

    def respond(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        parts = asked.path.strip("/").split("/")
        match asked.method, parts:
            case "POST", [model, "jobs"]:
                job_id = self.by_key.setdefault(asked.headers["idempotency-key"], f"job-{len(self.by_key) + 1}")
                if job_id not in self.answers:
                    self.job(job_id, {"status": "queued", "model": model})
                return 202, {"job_id": job_id, "status": "queued", "status_url": f"/jobs/{job_id}"}
            case "GET", ["jobs"]:
                return 200, self.pages[asked.query.get("after", "")]
            case "GET", ["jobs", "stats"]:
                return 200, self.stats
            case _, ["jobs", job_id, *_] if job_id not in self.answers:
                return 404, {"error": {"code": "not_found", "message": "there is no such job", "details": []}}
            case "GET", ["jobs", job_id]:
                states = self.answers[job_id]
                return 200, states.popleft() if len(states) > 1 else states[0]
            case "DELETE", ["jobs", job_id]:
                return self._change(job_id, {"queued", "running"}, "cancelled", 200)
            case "POST", ["jobs", job_id, "retry"]:
                return self._change(job_id, {"failed", "expired"}, "queued", 202)
        raise AssertionError(asked)

    def _change(self, job_id: str, allowed: set[str], status: str, code: int) -> tuple[int, dict[str, Any]]:
        if self.answers[job_id][0]["status"] not in allowed:
            return 409, {"error": {"code": "conflict", "message": "the job is past that", "details": []}}
        self.job(job_id, status)
        return code, self.answers[job_id][0]


def describe(job_id: str, **fields: Any) -> dict[str, Any]:
    """A job as the API writes it."""
    error = fields.pop("error", None)
    return {
        "job_id": job_id,
        "status": "queued",
        "status_url": f"/jobs/{job_id}",
        "model": "iris",
        "attempts": 0,
        "max_retries": 3,
        "created_at": "2026-11-21T12:00:00.000+00:00",
        "expires_at": "2026-11-21T12:05:00.000+00:00",
        "started_at": None,
        "finished_at": None,
        "next_attempt_at": None,
        "error": error,
        "position": None,
        "result": None,
        **fields,
    }


def done(result: Any) -> dict[str, Any]:
    return {
        "status": "succeeded",
        "attempts": 1,
        "result": result,
        "started_at": "2026-11-21T12:00:00.250+00:00",
        "finished_at": "2026-11-21T12:00:01.500+00:00",
    }


def failed(code: str, message: str) -> dict[str, Any]:
    return {"status": "failed", "attempts": 4, "error": {"code": code, "message": message}}


def handler(api: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def answer(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(
                self.command,
                parts.path,
                {name: values[0] for name, values in parse_qs(parts.query).items()},
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(int(self.headers.get("content-length", 0))),
            )
            api.asked.append(asked)
            fault = api.faults.popleft() if api.faults else None
            if fault == DROP:
                self.close_connection = True
                return
            if isinstance(fault, Busy):
                body = {"error": {"code": "overloaded", "message": "too much to do", "details": []}}
                self.send(
                    fault.status, json.dumps(body).encode() if fault.body is None else fault.body, fault.retry_after
                )
                return
            if callable(fault):
                fault()
            status, content = api.respond(asked)
            if fault == LOSE:
                self.close_connection = True
                return
            self.send(status, json.dumps(content).encode(), None)

        def send(self, status: int, body: bytes, retry_after: str | None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if retry_after is not None:
                self.send_header("Retry-After", retry_after)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its failure."""

    return Handler
