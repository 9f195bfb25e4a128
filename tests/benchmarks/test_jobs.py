"""The jobs benchmark: its targets, its picture, and its private Redis."""

import shutil
import socket
from urllib.parse import urlsplit

import pytest

from benchmarks import jobs
from benchmarks.jobs_program import PAYLOAD_BYTES, Depth, Inside, image_file
from benchmarks.load import LoadResult
from benchmarks.raw_engine import EngineResult
from benchmarks.redis_server import redis_server
from serving.codecs.image_decoding import load_image
from serving.store.models import ImagePreprocessing


def result(
    p50=2.0, blocked=10.0, starts=5.0, images=18.0, claims=(1.0, 2.0), rss=(100.0, 110.0), rate=1000.0, inside=1000.0
):
    return jobs.StoreResult(
        Inside(p50, 9.0, inside, blocked, 1.0),
        LoadResult(rate, 1.0, 2.0, 0, 0),
        [starts],
        [Depth(1_000, claims[0], rss[0]), Depth(100_000, claims[1], rss[1])],
        [jobs.Images(5.0, 20.0), jobs.Images(images, 20.0), jobs.Images(40.0, 20.0)],
    )


def met(**changes) -> list[bool | None]:
    results = jobs.Results({"jobs_redis": result(**changes)}, {1: EngineResult(15, 1, 1)})
    # those of SQLite come first, and nothing of it was measured
    found = [target.met for target in jobs.targets(results)]
    assert found[:6] == [None] * 6
    return found[6:]


def test_every_target_is_met_at_its_bound():
    assert met() == [True] * 8


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"p50": 2.01}, 0),
        ({"blocked": 10.1}, 1),
        ({"starts": 5.1}, 2),
        ({"images": 17.9}, 3),
        ({"claims": (1.0, 2.1)}, 4),
        ({"rss": (100.0, 111.0)}, 5),
        ({"inside": 999.0}, 6),
        ({"rate": 999.0}, 7),
    ],
)
def test_each_target_can_be_missed(changes, missed):
    assert met(**changes) == [number != missed for number in range(8)]


def test_sqlite_may_take_longer_to_start():
    found = jobs.targets(jobs.Results({"jobs_sqlite": result(starts=50.0)}))
    assert found[2].met is True
    assert jobs.targets(jobs.Results({"jobs_sqlite": result(starts=50.1)}))[2].met is False


def test_a_submission_is_a_picture_of_the_size_that_is_stated():
    content = image_file()
    assert len(content) == PAYLOAD_BYTES
    assert (
        load_image(content, ImagePreprocessing(width=299, height=299), formats={"JPEG"}, max_pixels=10**6).pixels
        == 640 * 480
    )


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server on PATH")
def test_the_private_redis_answers_and_is_gone_afterwards():
    with redis_server() as url:
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(address, timeout=60) as connection:
            connection.sendall(b"CONFIG GET appendonly\r\n")
            assert b"yes" in connection.recv(100)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(address, timeout=60)
