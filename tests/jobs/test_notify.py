"""Notification between the processes of a host: who is woken, and what happens where there can be no sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from serving.jobs.notify import Notifier, topic
from tests.jobs.factory import LONG_SECONDS

pytestmark = pytest.mark.anyio

ABOUT = topic("work", "model")
OTHER = topic("job", "model")


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of the test's own: short, as the address of a socket has to be."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture
async def opened(temporary: Path) -> AsyncIterator[Callable[..., Notifier]]:
    notifiers: list[Notifier] = []

    def another(file: Path = temporary / "jobs.db") -> Notifier:
        notifiers.append(Notifier(file))
        notifiers[-1].open()
        return notifiers[-1]

    yield another
    for notifier in notifiers:
        notifier.close()


def listed(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def heard(event: asyncio.Event) -> bool:
    async with asyncio.timeout(LONG_SECONDS):
        return await event.wait()


async def test_everybody_who_listens_to_the_topic_is_woken(opened: Callable[..., Notifier]) -> None:
    one, two = opened(), opened()
    with one.listening(ABOUT) as here, one.listening(ABOUT) as here_too, two.listening(ABOUT) as there:
        two.publish([ABOUT])
        assert await heard(here)
        assert await heard(here_too)
        assert await heard(there)


async def test_nobody_else_is(opened: Callable[..., Notifier], temporary: Path) -> None:
    one, two, stranger = opened(), opened(), opened(temporary / "another.db")
    with one.listening(OTHER) as other, stranger.listening(ABOUT) as strange, one.listening(ABOUT) as last:
        two.publish([ABOUT])
        assert await heard(last)
        assert not other.is_set()
        assert not strange.is_set()


async def test_the_file_may_be_named_in_several_ways(opened: Callable[..., Notifier], temporary: Path) -> None:
    (temporary / "link").symlink_to(temporary)
    one, two = opened(temporary / "link" / "jobs.db"), opened(temporary / "x" / ".." / "jobs.db")
    with one.listening(ABOUT) as event:
        two.publish([ABOUT])
        assert await heard(event)


async def test_many_topics_at_once(opened: Callable[..., Notifier]) -> None:
    one, two = opened(), opened()
    topics = [topic("job", str(number)) for number in range(1200)]
    with one.listening(topics[0]) as first, one.listening(topics[-1]) as last:
        two.publish(topics)
        assert await heard(first)
        assert await heard(last)


async def test_what_a_full_queue_has_lost_is_made_up_for(opened: Callable[..., Notifier]) -> None:
    """The receiver cannot know what was refused, so it wakes everybody."""
    one, two = opened(), opened()
    with one.listening(ABOUT) as event:
        for number in range(2000):  # the loop does not run meanwhile, so that they pile up
            two.publish([topic("job", str(number))])
        two.publish([ABOUT])
        assert await heard(event)


async def test_any_text_is_a_topic() -> None:
    names = ["", "a", "a\x00", "\ud800", "é" * 10_000, "\n"]
    assert len({topic("job", name) for name in names}) == len(names)
    assert {len(topic("job", name)) for name in names} == {8}
    assert ABOUT != OTHER


async def test_only_this_user_reaches_the_sockets(opened: Callable[..., Notifier]) -> None:
    assert stat.S_IMODE(opened().directory.stat().st_mode) == 0o700


async def test_closing_wakes_who_listens_and_leaves_nothing(opened: Callable[..., Notifier], temporary: Path) -> None:
    one, two = opened(), opened()
    with one.listening(ABOUT) as event:
        one.close()
        assert event.is_set()
    one.close()
    two.publish([ABOUT])
    one.publish([ABOUT])
    assert len(listed(two.directory)) == 1
    two.close()
    assert listed(temporary) == []


HOLD = """
import asyncio, sys
from pathlib import Path
from serving.jobs.notify import Notifier
async def main():
    Notifier(Path(sys.argv[1])).open()
    print("open", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


def leave_a_socket(temporary: Path) -> None:
    """As a process does that is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(temporary / "jobs.db")],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"open\n"
        finally:
            process.kill()


async def test_what_a_killed_process_has_left_is_removed(opened: Callable[..., Notifier], temporary: Path) -> None:
    one = opened()
    leave_a_socket(temporary)
    assert len(listed(one.directory)) == 2
    with one.listening(ABOUT) as event:
        one.publish([ABOUT])
        assert await heard(event)
    assert len(listed(one.directory)) == 1


def _open_to_others(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o777)


def _a_link(directory: Path) -> None:
    (directory.parent / "elsewhere").mkdir(mode=0o700)
    directory.symlink_to(directory.parent / "elsewhere")


def _a_file(directory: Path) -> None:
    directory.touch()


@pytest.mark.parametrize("prepare", [_open_to_others, _a_link, _a_file])
async def test_without_a_safe_directory_one_warning_and_short_pauses(
    temporary: Path, caplog: pytest.LogCaptureFixture, prepare: Callable[[Path], None]
) -> None:
    notifier = Notifier(temporary / "jobs.db")
    prepare(notifier.directory)
    with caplog.at_level(logging.WARNING):
        notifier.open()
    notifier.publish([ABOUT])
    assert notifier.longest_pause == 0.05
    notifier.close()
    assert len(caplog.records) == 1
    assert notifier.directory.exists()


async def test_with_a_socket_pauses_are_long(opened: Callable[..., Notifier]) -> None:
    assert opened().longest_pause == 1


async def test_a_temporary_directory_with_a_long_name(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The address of a Unix socket has about a hundred bytes."""
    long = temporary / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    notifier = Notifier(temporary / "jobs.db")
    notifier.open()
    assert notifier.longest_pause == 0.05
    assert len(caplog.records) == 1
    notifier.close()
