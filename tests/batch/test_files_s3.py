"""`serving batch score-files` from and to an object store: moto's server, which speaks S3."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import fsspec
import pyarrow.parquet as pq
import pytest
from moto.server import ThreadedMotoServer

from serving.batch.files.run import Threads, plan, run
from serving.batch.files.scoring import PartScorer
from serving.core.tensors import Tensors
from serving.store.models import open_model
from tests.batch.files import Command, Scored, table
from tests.jobs.test_work import Counting


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty bucket; where and as whom it is reached stands in the environment, as anywhere."""
    variables = {"ENDPOINT_URL": endpoint, "ACCESS_KEY_ID": "tests", "SECRET_ACCESS_KEY": "tests"}
    # nothing of whoever runs the tests
    variables |= {"SHARED_CREDENTIALS_FILE": "/dev/null", "CONFIG_FILE": "/dev/null", "EC2_METADATA_DISABLED": "true"}
    for name, value in (variables | {"DEFAULT_REGION": "us-east-1"}).items():
        monkeypatch.setenv(f"AWS_{name}", value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="rows")
    yield "s3://rows"
    client.close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], model_store: object) -> Command:  # noqa: ARG001
    return Command(capsys)


def test_from_bucket_to_bucket_and_on_after_a_failure(command: Command, bucket: str) -> None:
    filesystem, _ = fsspec.core.url_to_fs(bucket)
    for day in (1, 2):
        content = table(3000, seed=day, first_id=3000 * (day - 1))
        with filesystem.open(f"{bucket}/in/day={day}/rows.parquet", "wb") as file:
            pq.write_table(content, file, row_group_size=1000)
    model = open_model("iris:latest")
    planned = plan(f"{bucket}/in", f"{bucket}/out", model, part_rows=1000)
    scorer = PartScorer(planned.job, model.metadata, Scored(model).engine)
    scorer(planned.parts[0])
    scorer(planned.parts[4])

    class Broken(Counting):
        def _call(self, tensors: Tensors) -> Tensors:
            raise RuntimeError(f"the power is gone, {len(tensors)} tensors lost")

    with pytest.raises(RuntimeError, match="power"):
        run(plan(f"{bucket}/in", f"{bucket}/out", model), Threads(Broken(Scored(model).engine), threads=1))

    status, summary, errors = command(f"{bucket}/in", f"{bucket}/out")
    assert (status, summary["rows"], summary["parts"], summary["parts_done_before"]) == (0, 6000, 6, 2), errors
    names = sorted(name.removeprefix("rows/out/") for name in filesystem.find(f"{bucket}/out", refresh=True))
    assert [name for name in names if not name.startswith("_")] == [
        f"day={number // 3 + 1}/part-0000{number}.parquet" for number in range(6)
    ]
    assert not any("_temporary" in name for name in names)
    ids: list[int] = []
    for number in range(6):
        with filesystem.open(f"{bucket}/out/day={number // 3 + 1}/part-0000{number}.parquet", "rb") as file:
            written = pq.read_table(file)
        assert written["error"].null_count == 1000
        ids += written["id"].to_pylist()
    assert ids == list(range(6000))

    with filesystem.open(f"{bucket}/in/day=2/rows.parquet", "wb") as file:
        pq.write_table(table(3000, seed=9), file)
    status, _, errors = command(f"{bucket}/in", f"{bucket}/out")
    assert (status, "begun with another input" in errors) == (1, True)


@pytest.mark.parametrize("url", ["s3://nowhere/in", "s3://rows/nothing"])
@pytest.mark.usefixtures("bucket")
def test_what_is_not_there_is_one_line(command: Command, url: str) -> None:
    status, _, errors = command(url, "s3://rows/other")
    assert (status, errors.count("\n")) == (1, 1), errors


def test_without_credentials_it_is_one_line(command: Command, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.delenv(f"AWS_{name}")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    status, _, errors = command(f"{bucket}/in", f"{bucket}/other")
    assert (status, errors.count("\n"), "credentials" in errors.lower()) == (1, 1, True), errors
