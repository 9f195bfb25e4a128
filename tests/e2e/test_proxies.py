"""Clients and commands beside a proxy that nobody has told of this machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.server import NO_PROXY_THERE, ROOT, Server

CLIENT = """
import asyncio, sys
from serving.client import AsyncPredictor, Client, Predictor

async def label(url):
    async with AsyncPredictor(url, timeout=60) as predictor:
        return (await predictor.predict("iris", rows=[[5.1, 3.5, 1.4, 0.2]]))[0].label

url = sys.argv[1]
with Client(url) as client, Predictor(url, timeout=60) as predictor:
    client.stats()
    print(predictor.predict("iris", rows=[[5.1, 3.5, 1.4, 0.2]])[0].label, asyncio.run(label(url)))
"""
ROW = ["iris", "--row", "5.1,3.5,1.4,0.2", "--timeout", "60"]
PROGRAMS = {
    "predict": ["-m", "serving", "predict", *ROW, "--target", "{url}"],
    "predict over gRPC": ["-m", "serving", "predict", *ROW, "--transport", "grpc", "--target", "{grpc}"],
    "jobs": ["-m", "serving", "jobs", "submit", "iris", "--rows", "[[5.1, 3.5, 1.4, 0.2]]", "--wait", "--url", "{url}"],
    "inventory": ["-m", "serving", "inventory", "--diff", "{url}", "{url}"],
    "the client": ["-c", CLIENT, "{url}"],
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_directly(server: Server, name: str, host: str) -> None:
    grpc = server.grpc_target.replace("127.0.0.1", host)
    arguments = [each.format(url=f"http://{host}:{server.port}", grpc=grpc) for each in PROGRAMS[name]]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | NO_PROXY_THERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert name == "inventory" or "setosa" in done.stdout or "0.97" in done.stdout, done.stdout


def test_other_servers_are_asked_of_the_proxy() -> None:
    arguments = ["-m", "serving", "predict", *ROW[:3], "--timeout", "2", "--target", "http://model.example:3000"]
    environment = os.environ | NO_PROXY_THERE
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode != 0
    assert "refused" in done.stderr, "as nobody listens where the proxy is said to be"
