"""A client that is shared by a process and its forked children gives each the answers to its own questions."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client import fork_program
from tests.client.fork_program import CHILDREN, Way, row
from tests.client.server import Address
from tests.jobs_stand_in import StandIn, done
from tests.pki import Authority
from tests.relay import Relay

NUMBERS = range(CHILDREN + 1)
RIGHT = {"parent": [], "children": [[]] * CHILDREN, "statuses": [0] * CHILDREN}


@pytest.fixture(scope="module")
def expected(any_models: Address) -> list[Any]:
    """The classes of each row, best first, from the routes that all ways are compared with."""
    found = []
    for number in NUMBERS:
        answer = httpx.post(f"{any_models.url}/flowers/predict", json={"data": row(number)}, timeout=60).json()
        found.append(sorted(zip("abc", answer["prediction"][0], strict=True), key=lambda pair: -pair[1]))
    assert len({str(each) for each in found}) == len(found)
    return [[list(pair) for pair in each] for each in found]


@pytest.fixture
def jobs() -> Iterator[StandIn]:
    with StandIn() as api:
        for number in NUMBERS:
            api.job(f"job-{number}", done(number))
        yield api


def run(how: str, *ways: Way, asynchronous: bool = False) -> dict[str, Any]:
    plan = {"ways": ways, "how": how, "asynchronous": asynchronous}
    # A child has sockets of calls of its parent that it cannot close.
    command = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-m", fork_program.__name__]
    ended = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Exception ignored" not in ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("how", ["fork", "fork and exit", "multiprocessing"])
def test_each_process_gets_its_own_answers(any_models: Address, jobs: StandIn, expected: list[Any], how: str) -> None:
    with ExitStack() as stack:
        relays = [
            stack.enter_context(Relay("127.0.0.1", int(address.rpartition(":")[2])))
            for address in (any_models.url, any_models.grpc, jobs.url)
        ]
        rest, grpc, other = (relay.address for relay in relays)
        ways = [
            Way("native-rest", rest, expected),
            Way("v2-grpc", grpc, expected),
            Way("jobs", f"http://{other}", list(NUMBERS)),
        ]
        assert run(how, *ways) == RIGHT
        # The parent has kept its connections.
        assert [relay.connections for relay in relays] == [1 + CHILDREN] * 3


def test_a_child_does_not_take_leave_of_a_server_of_tls_in_the_name_of_its_parent(
    jobs: StandIn, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("server", "127.0.0.1"))
    jobs.server.socket = context.wrap_socket(jobs.server.socket, server_side=True, do_handshake_on_connect=False)
    with Relay("127.0.0.1", jobs.port) as relay:
        way = Way("jobs", f"https://{relay.address}", list(NUMBERS), str(authority.ca))
        assert run("fork and exit", way) == RIGHT
        assert relay.connections == 1 + CHILDREN


def test_clients_of_event_loops(any_models: Address, expected: list[Any]) -> None:
    ways = [Way("v2-rest", any_models.url, expected), Way("tfserving-grpc", any_models.grpc, expected)]
    assert run("fork", *ways, asynchronous=True) == RIGHT


def child_of(parent: str) -> str:
    """What a child is told whose parent has run a program that leaves the child's `pid`, 0."""
    program = f"""
import os
from serving.client import Predictor, UnreachableError
from serving.client.grpc_forks import GATE

{parent}
if pid:
    os.waitpid(pid, 0)
    with GATE.call():
        print("the parent goes on")
else:
    try:
        Predictor("127.0.0.1:1", protocol="v2", transport="grpc").predict("flowers", rows=[[1]])
    except UnreachableError as error:
        print(error, flush=True)
        os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    said, parent_said = done.stdout.splitlines()
    assert parent_said == "the parent goes on"
    return said


def test_a_child_of_the_middle_of_a_call_is_told_so() -> None:
    """As when a signal handler forks."""
    assert "forked during a call of its parent; use REST" in child_of("with GATE.call():\n    pid = os.fork()")


def test_without_support_in_the_library_a_child_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = "with GATE.call():\n    pass\npid = os.fork()"
    assert "cannot be reached" in child_of(parent)
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    assert "GRPC_ENABLE_FORK_SUPPORT is off; use REST" in child_of(parent)


def test_requests_import_nothing(any_models: Address) -> None:
    """A child would wait for ever for an import that another thread of its parent was in the middle of.

    Neither what the first request would import, nor what is missing and looked for each time.
    """
    program = f"""
import asyncio, sys
from importlib import _bootstrap
from serving.client import AsyncPredictor, Predictor

async def ask():
    await asynchronous.predict("flowers", rows=[{row(0)[0]}])
    await asynchronous.close()

blocking, asynchronous = Predictor({any_models.url!r}), AsyncPredictor({any_models.url!r})
looked_for = []
find = _bootstrap._find_and_load

def look_for(name, import_):
    if name not in sys.modules:
        looked_for.append(name)
    return find(name, import_)

_bootstrap._find_and_load = look_for
blocking.predict("flowers", rows=[{row(0)[0]}])
asyncio.run(ask())
print(looked_for)
blocking.close()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "[]\n"
