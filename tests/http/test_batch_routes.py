"""The batch routes against each kind of database, in this process."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from psycopg.errors import DeadlockDetected
from sqlalchemy import insert, make_url, update
from sqlalchemy.exc import OperationalError

from serving.batch.database import Database
from serving.batch.items import add_items
from serving.batch.migrate import migrate
from serving.batch.tables import Item, Run, Status
from serving.bento.api import _described
from serving.http.application import Application, HttpState
from serving.http.batch import batch_routes
from serving.http.batch_handler import MOST_BYTES, BatchHandler
from serving.http.routes import Routes
from serving.metrics import Metrics
from serving.model import Models
from serving.settings import get_settings
from tests.databases import (  # noqa: F401 - fixtures
    database_url,
    make_database,
    mariadb_server,
    postgres_server,
)
from tests.http.test_bad_input import check_shape
from tests.server import free_port

pytestmark = pytest.mark.anyio

ROW = [5.1, 3.5, 1.4, 0.2]
IMAGE = {"image_path": "cats/cat.jpg"}


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/batch.db"


@pytest.fixture
async def open_api(model_store: Path) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:  # noqa: ARG001
    """A client of the routes on a database, as the service has them; models that are served may be given."""
    handlers: list[BatchHandler] = []

    def open_one(url: str, *, models: tuple[str, ...] = ("iris", "inception_v3"), tables: bool = True) -> Any:
        database = Database(url, connections=4)
        if tables:
            migrate(database)
        entries = get_settings().models
        served = Models([_described(name, entries[name]) for name in models])
        handler = BatchHandler(database, served)
        handlers.append(handler)
        # Of its own: the service of other tests may be running in this process.
        metrics = Metrics(
            service_name="t",
            service_version="",
            runner_name="",
            duration_buckets=[1.0],
            registry=CollectorRegistry(),
        )
        state = HttpState(Routes(batch_routes(served, lambda: handler)), metrics)
        app = Application(
            nobody,
            state=lambda: state,
            max_bytes=get_settings().api.max_request_bytes,
            time_limit=get_settings().server.request_timeout_seconds,
            log_predictions=False,
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    yield open_one
    for handler in handlers:
        handler.close()


async def nobody(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("BentoML's application is not here")


def body(*values: Any, model: str = "iris") -> dict[str, Any]:
    return {"items": [{"model": model, "values": each} for each in values]}


async def test_rows_are_added_and_found(open_api: Any, database_url: str) -> None:  # noqa: F811
    async with open_api(database_url) as client:
        response = await client.post("/batch/items", json=body(ROW, [6, 3, 5, 2]))
        assert response.status_code == 201, response.text
        ids = response.json()["ids"]
        image = (await client.post("/batch/items", json=body(IMAGE, model="inception_v3"))).json()["ids"]
        assert ids == [1, 2]
        assert image == [3]
        row = (await client.get("/batch/items/2")).json()
        created = datetime.fromisoformat(row.pop("created_at"))
        assert created.tzinfo == UTC
        assert abs(datetime.now(UTC) - created) < timedelta(minutes=1)
        assert datetime.fromisoformat(row.pop("updated_at")) >= created - timedelta(seconds=1)
        nothing = {"prediction": None, "label": None, "model_tag": None, "attempts": 0, "error": None}
        assert row == {"id": 2, "model": "iris", "values": [6.0, 3.0, 5.0, 2.0], "status": "unpredicted"} | nothing
        assert (await client.get("/batch/items/3")).json()["values"] == IMAGE
        assert (await client.get("/batch/runs")).json() == {"runs": [], "next": None}

        database = Database(database_url)
        with database.write() as connection:
            connection.execute(
                update(Item)
                .where(Item.id == 1)
                .values(status="predicted", prediction=[0.9, 0.1], label="setosa", model_tag="iris:1", attempts=1)
            )
            connection.execute(update(Item).where(Item.id == 2).values(status="failed", error="bad", attempts=3))
            connection.execute(insert(Run), [{"scope": {"model": "iris"}, "scorer": f"host:{n}"} for n in range(3)])
            connection.execute(update(Run).where(Run.id == 1).values(outcome="done", claimed=5, succeeded=4, failed=1))
        database.close()
        row = (await client.get("/batch/items/1")).json()
        assert [row[name] for name in ("status", "prediction", "label", "model_tag", "attempts")] == [
            *("predicted", [0.9, 0.1], "setosa", "iris:1", 1)
        ]
        for number, status in enumerate(("predicted", "failed", "unpredicted"), 1):
            page = (await client.get(f"/batch/items?status={status}")).json()
            assert ([row["id"] for row in page["items"]], page["next"]) == ([number], None)
        page = (await client.get("/batch/runs?limit=2")).json()
        assert ([run["id"] for run in page["runs"]], page["next"]) == ([3, 2], 2)
        page = (await client.get("/batch/runs?limit=2&after=2")).json()
        assert page["next"] is None
        (run,) = page["runs"]
        started = datetime.fromisoformat(run.pop("started_at"))
        assert abs(datetime.now(UTC) - started) < timedelta(minutes=1)
        assert run == {
            "id": 1, "finished_at": None, "scope": {"model": "iris"}, "scorer": "host:0", "claimed": 5, "succeeded": 4,
            "failed": 1, "outcome": "done", "error": None,
        }  # fmt: skip


async def test_pages_follow_each_other(open_api: Any, sqlite: str) -> None:
    async with open_api(sqlite) as client:
        added = (await client.post("/batch/items", json=body(*[ROW] * 250))).json()["ids"]
        params: dict[str, Any] = {"status": "unpredicted"}
        found: list[int] = []
        sizes = []
        while True:
            page = (await client.get("/batch/items", params=params)).json()
            sizes.append(len(page["items"]))
            found += [row["id"] for row in page["items"]]
            if page["next"] is None:
                break
            params["after"] = page["next"]
        assert (found, sizes) == (added, [100, 100, 50])
        page = (await client.get("/batch/items?limit=125&after=125")).json()
        assert ([row["id"] for row in page["items"]][::124], page["next"]) == ([126, 250], None)


async def test_what_other_programs_have_written_is_shown(open_api: Any, sqlite: str) -> None:
    """Even if it is no JSON, or a number, which SQLite keeps as one, and beside rows that are in order."""
    async with open_api(sqlite) as client:
        await client.post("/batch/items", json=body(ROW))
        database = Database(sqlite)
        with database.write() as connection:
            for text in ("{broken", "[NaN]", '{"a": 1}', "7", "0.1"):
                connection.exec_driver_sql('INSERT INTO serving_items (model, "values") VALUES (?, ?)', ("wine", text))
        database.close()
        values = [row["values"] for row in (await client.get("/batch/items")).json()["items"]]
        assert values == [ROW, "{broken", "[NaN]", {"a": 1}, 7, 0.1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"), ("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", "limit"),
        ("after=-1", "after"), ("after=x", "after"), ("after=9223372036854775808", "after"), ("state=failed", "state"),
    ],
)  # fmt: skip
async def test_a_wrong_parameter_is_not_ignored(open_api: Any, sqlite: str, query: str, field: str) -> None:
    async with open_api(sqlite) as client:
        for path in ("/batch/items", "/batch/runs"):
            response = await client.get(f"{path}?{query}")
            assert response.status_code == 400
            check_shape(response)
            expected = field if path == "/batch/items" or field in ("limit", "after") else query.partition("=")[0]
            assert [detail["field"] for detail in response.json()["error"]["details"]] == [expected]
        assert (await client.get("/batch/items/1?x=1")).status_code == 400
        assert (await client.post("/batch/items?x=1", json=body(ROW))).status_code == 400


@pytest.mark.parametrize("wrong", ["0", "999", "9999999999999999999", "-1", "x", "1.0", "12345678901234567890", ""])
async def test_what_is_no_row_is_404(open_api: Any, sqlite: str, wrong: str) -> None:
    async with open_api(sqlite) as client:
        await client.post("/batch/items", json=body(ROW))
        response = await client.get(f"/batch/items/{wrong}")
        if wrong:
            assert response.status_code == 404
            assert check_shape(response)["code"] == "not_found"


async def test_other_methods_are_405(open_api: Any, sqlite: str) -> None:
    async with open_api(sqlite) as client:
        response = await client.delete("/batch/items")
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.post("/batch/runs")).status_code == 405
        assert (await client.put("/batch/items/1")).status_code == 405


GOOD = {"model": "iris", "values": ROW}


@pytest.mark.parametrize(
    ("content", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"[]", 400, ""),
        (b"{}", 400, "items"),
        ({"items": []}, 400, "items"),
        ({"items": [GOOD] * 1001}, 400, "items"),
        ({"items": [GOOD], "x": 1}, 400, "x"),
        ({"items": [GOOD, {"model": "iris", "values": [1, 2, 3]}]}, 400, "items[1].values"),
        ({"items": [{"model": "iris", "values": [1, 2, 3, None]}]}, 400, "items[0].values[3]"),
        ({"items": [{"model": "iris", "values": [1, 2, 3, 1e39]}]}, 400, "items[0].values[3]"),
        (b'{"items": [{"model": "iris", "values": [1, 2, 3, NaN]}]}', 400, "items[0].values[3]"),
        ({"items": [GOOD | {"id": 7}]}, 400, "items[0].id"),
        ({"items": [GOOD | {"status": "predicted"}]}, 400, "items[0].status"),
        ({"items": [{"model": "wine", "values": ROW}]}, 400, "items[0].model"),
        ({"items": [{"values": ROW}]}, 400, "items[0].model"),
        ({"items": [{"model": "inception_v3", "values": ROW}]}, 400, "items[0].values"),
        ({"items": [{"model": "inception_v3", "values": {}}]}, 400, "items[0].values"),
        ({"items": [{"model": "inception_v3", "values": {"image_url": "http://host/a"}}]}, 400, "items[0].values"),
        ({"items": [{"model": "inception_v3", "values": IMAGE | {"image_url": "file:///a"}}]}, 400, "items[0].values"),
        (b" " * (MOST_BYTES + 1), 413, None),
    ],
    ids=lambda value: str(value)[:60] if not isinstance(value, bytes) else str(value[:30]),
)
async def test_rows_that_cannot_be_scored_are_not_added(
    open_api: Any, sqlite: str, content: Any, status: int, field: str | None
) -> None:
    async with open_api(sqlite) as client:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        response = await client.post("/batch/items", content=data, headers={"content-type": "application/json"})
        assert response.status_code == status, response.text
        check_shape(response)
        if field is not None:
            fields = [detail["field"] for detail in response.json()["error"]["details"]]
            assert field in fields, response.text
        assert (await client.get("/batch/items")).json()["items"] == []


async def test_other_content_types_and_other_models_are_refused(open_api: Any, sqlite: str) -> None:
    async with open_api(sqlite, models=("iris",)) as client:
        response = await client.post("/batch/items", content=b"1,2,3,4", headers={"content-type": "text/csv"})
        assert response.status_code == 415
        response = await client.post("/batch/items", json=body(IMAGE, model="inception_v3"))
        assert response.status_code == 400
        assert check_shape(response)["details"][0]["field"] == "items[0].model"


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
async def test_without_a_database_it_is_503(open_api: Any, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    url = f"{scheme}://somebody:secret@127.0.0.1:{free_port()}/rows"
    async with open_api(url, tables=False) as client:
        for method, path in (("GET", "/batch/items"), ("GET", "/batch/items/1"), ("GET", "/batch/runs")):
            response = await client.request(method, path)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert check_shape(response)["code"] == "unavailable"
            assert "secret" not in response.text + caplog.text
        assert (await client.post("/batch/items", json=body(ROW))).status_code == 503
    assert "does not answer" in caplog.text


async def test_without_tables_it_is_503_and_the_log_says_what_to_do(
    open_api: Any,
    database_url: str,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_api(database_url, tables=False) as client:
        response = await client.get("/batch/items")
        assert response.status_code == 503
        assert check_shape(response)["code"] == "unavailable"
        assert (await client.post("/batch/items", json=body(ROW))).status_code == 503
    assert "serving batch init" in caplog.text


async def test_without_rights_it_is_503_and_the_log_says_which(
    open_api: Any,
    make_database: Callable[[str], str],  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = make_database("postgres")
    administrator = Database(url)
    migrate(administrator)
    user = f"reader_{secrets.token_hex(4)}"
    with administrator.write() as connection:
        connection.exec_driver_sql(f"CREATE ROLE {user} LOGIN PASSWORD 'secret'")
        connection.exec_driver_sql(f"GRANT SELECT, INSERT ON serving_items, serving_runs TO {user}")
    of_user = make_url(url).set(username=user, password="secret").render_as_string(hide_password=False)  # noqa: S106
    async with open_api(of_user, tables=False) as client:
        assert (await client.get("/batch/items")).status_code == 200
        response = await client.post("/batch/items", json=body(ROW))
        assert response.status_code == 503
        assert check_shape(response)["code"] == "unavailable"
    assert f"the user {user} lacks UPDATE on serving_items" in caplog.text
    assert "secret" not in caplog.text
    with administrator.write() as connection:
        connection.exec_driver_sql(f"DROP OWNED BY {user}")
        connection.exec_driver_sql(f"DROP ROLE {user}")
    administrator.close()


async def test_another_transaction_in_the_way_is_tried_again(
    open_api: Any,
    make_database: Callable[[str], str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[int] = []

    def add(database: Database, rows: Any) -> list[int]:
        tries.append(len(rows))
        if len(tries) in fails:
            raise OperationalError("INSERT", {}, DeadlockDetected("deadlock detected"))
        return add_items(database, rows)

    monkeypatch.setattr("serving.http.batch_handler.add_items", add)
    async with open_api(make_database("postgres")) as client:
        fails = {1, 2}
        assert (await client.post("/batch/items", json=body(ROW))).json() == {"ids": [1]}
        fails = set(range(100))
        assert (await client.post("/batch/items", json=body(ROW))).status_code == 503
    assert len(tries) == 6


async def test_the_event_loop_does_not_wait_and_the_queue_has_a_bound(
    open_api: Any, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that does not answer holds four threads; others wait, and beyond a bound are told to come back."""
    go_on = threading.Event()
    asked = threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> Any:
        asked.release()
        assert go_on.wait(60)
        raise OperationalError("SELECT", {}, ConnectionError("gone"), connection_invalidated=True)

    async with open_api(sqlite) as client:
        monkeypatch.setattr("serving.http.batch_handler.page_of_runs", hang)
        held = [asyncio.create_task(client.get("/batch/runs")) for _ in range(64)]
        async with asyncio.timeout(60):
            for _ in range(4):
                while not asked.acquire(blocking=False):  # noqa: ASYNC110 - a thread says so
                    await asyncio.sleep(0.001)
            # the loop is free to say that it is too much
            refused = await client.get("/batch/runs")
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert not any(task.done() for task in held)
        late = await client.get("/batch/items", headers={"X-Request-Timeout-Ms": "1"})
        assert late.status_code in (429, 504)
        go_on.set()
        async with asyncio.timeout(60):
            assert {response.status_code for response in await asyncio.gather(*held)} == {503}
        assert (await client.get("/batch/items")).status_code == 200


async def test_what_nobody_waits_for_is_not_begun(open_api: Any, sqlite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    asked: list[int] = []

    def hang(_database: Any, number: int) -> None:
        asked.append(number)
        assert go_on.wait(60)

    monkeypatch.setattr("serving.http.batch_handler.get_item", hang)
    async with open_api(sqlite) as client:
        held = [asyncio.create_task(client.get("/batch/items/1")) for _ in range(4)]
        async with asyncio.timeout(60):
            while len(asked) < 4:  # noqa: ASYNC110 - threads say so
                await asyncio.sleep(0.001)
        headers = {"X-Request-Timeout-Ms": "100"}
        assert (await client.post("/batch/items", json=body(ROW), headers=headers)).status_code == 504
        go_on.set()
        await asyncio.gather(*held)
        assert (await client.get("/batch/items")).json()["items"] == [], "it was told that it took too long"


async def test_without_a_database_there_are_no_such_routes(client: httpx.AsyncClient) -> None:
    """As the service of the other tests is configured."""
    assert (await client.get("/batch/items")).status_code == 404
    assert not [path for path in (await client.get("/docs.json")).json()["paths"] if path.startswith("/batch/")]


def test_ids_come_in_the_order_of_the_rows(database_url: str) -> None:  # noqa: F811
    database = Database(database_url)
    migrate(database)
    assert add_items(database, [("iris", [float(n)] * 4) for n in range(1000)]) == list(range(1, 1001))
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT id, status FROM serving_items ORDER BY id").all()
    assert [tuple(row) for row in rows] == [(n, Status.UNPREDICTED.value) for n in range(1, 1001)]
    database.close()
