"""Health checks of containers ask the container, also where its environment names a proxy."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml

from tests.server import NO_PROXY_THERE, ROOT

TEMPLATE = (ROOT / "deploy/Dockerfile.template").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
(IN_THE_IMAGE,) = re.findall(r"HEALTHCHECK[^\[]*CMD (\[.*\])", TEMPLATE)
CHECKS = {
    "image": json.loads(IN_THE_IMAGE),
    **{
        name: service["healthcheck"]["test"][1:]
        for name, service in COMPOSE.items()
        if service["healthcheck"]["test"][1] == "python"
    },
}


class Answering(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class Failing(Answering):
    status = 503


@pytest.fixture(params=[Answering, Failing])
def server(request: pytest.FixtureRequest) -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_asks_the_container(server: HTTPServer, name: str) -> None:
    _, *arguments = CHECKS[name]
    arguments = [re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{server.server_port}", each) for each in arguments]
    environment = {"PATH": os.environ["PATH"]} | NO_PROXY_THERE
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False, timeout=60)
    assert (done.returncode == 0) == (server.RequestHandlerClass is Answering), done.stderr


def test_there_are_checks() -> None:
    assert {"image", "api", "worker"} <= set(CHECKS)
