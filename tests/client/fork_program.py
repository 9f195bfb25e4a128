"""Asks with the same clients in a process and in its forked children at once, each with an input of its own.

Run by test_forks.py: the process of pytest has servers, and would fork them too. Prints what was answered wrong.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from serving.client import AsyncPredictor, Client, Predictor

CHILDREN, CALLS = 4, 20


class Way(NamedTuple):
    """`name` is `jobs` or `protocol-transport`; `expected` are the answers by number."""

    name: str
    target: str
    expected: list[Any]
    ca: str | None = None


def row(number: int) -> list[list[float]]:
    return [[float(number), 1.0, 2.0, 3.0]]


def plain(predictions: list[Any]) -> list[list[Any]]:
    (prediction,) = predictions
    return [[each.label, each.probability] for each in prediction.candidates]


def predictor(kind: Any, way: Way) -> Any:
    protocol, transport = way.name.split("-")
    return kind(way.target, protocol=protocol, transport=transport, timeout=60, tls_ca=way.ca)


class Blocking:
    """A client of each way."""

    def __init__(self, ways: list[Way]) -> None:
        self._asks = [(way, self._asking(way)) for way in ways]

    @staticmethod
    def _asking(way: Way) -> Callable[[int], Any]:
        if way.name == "jobs":
            jobs = Client(way.target, tls_ca=way.ca)
            return lambda number: jobs.get(f"job-{number}").result
        client = predictor(Predictor, way)
        return lambda number: plain(client.predict("flowers", rows=row(number)))

    def ask(self, number: int, enough: Callable[[], bool]) -> Iterator[Any]:
        """Asks by every way in turn until it is enough; what is wrong."""
        while not enough():
            for way, ask in self._asks:
                answer = ask(number)
                yield None if answer == way.expected[number] else [way.name, answer]


class Asynchronous:
    """The same with coroutines, all ways at once, in a loop of whoever asks."""

    def __init__(self, ways: list[Way]) -> None:
        self._predictors = [(way, predictor(AsyncPredictor, way)) for way in ways]

    def ask(self, number: int, enough: Callable[[], bool]) -> Iterator[Any]:
        async def ask(way: Way, client: AsyncPredictor) -> Any:
            answer = plain(await client.predict("flowers", rows=row(number)))
            return None if answer == way.expected[number] else [way.name, answer]

        with asyncio.Runner() as runner:

            async def ask_all() -> list[Any]:
                return await asyncio.gather(*(ask(*each) for each in self._predictors))

            async def close() -> None:
                for _, client in self._predictors:
                    await client.close()

            while not enough():
                yield from runner.run(ask_all())
            runner.run(close())


def main(plan: dict[str, Any]) -> None:
    client: Any = (Asynchronous if plan["asynchronous"] else Blocking)([Way(*each) for each in plan["ways"]])
    begun, enough = threading.Event(), threading.Event()
    wrong: list[Any] = []

    def keep_asking() -> None:
        for number, answer in enumerate(client.ask(0, enough.is_set), 1):
            wrong.extend([answer] if answer else [])
            if number == len(plan["ways"]):
                begun.set()

    parent = threading.Thread(target=keep_asking)
    parent.start()
    begun.wait()

    def child(number: int) -> None:
        calls = iter([False] * CALLS)
        found = [answer for answer in client.ask(number, lambda: next(calls, True)) if answer]
        os.write(output, json.dumps(found).encode() + b"\n")

    source, output = os.pipe()
    children: list[Any] = []
    for number in range(1, CHILDREN + 1):
        if plan["how"] == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=child, args=(number,))
            process.start()
            children.append(process)
        elif pid := os.fork():
            children.append(pid)
        else:
            child(number)
            if plan["how"] == "fork and exit":
                sys.exit()
            os._exit(0)
    os.close(output)
    with os.fdopen(source) as lines:
        answers = [json.loads(line) for line in lines]
    statuses = [_status(each) for each in children]
    enough.set()
    parent.join()
    print(json.dumps({"parent": wrong, "children": answers, "statuses": statuses}))


def _status(child: Any) -> int:
    if isinstance(child, int):
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    child.join()
    return int(child.exitcode)


if __name__ == "__main__":
    main(json.load(sys.stdin))
