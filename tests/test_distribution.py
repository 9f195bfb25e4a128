"""What is dear is made once."""

from __future__ import annotations

import pytest

from tests import distribution


@pytest.mark.parametrize(("fixture", "module"), [("server", "tests.conftest"), ("keras", "tests.train.conftest")])
def test_the_files_that_share_a_fixture_run_in_one_process(
    request: pytest.FixtureRequest, fixture: str, module: str
) -> None:
    """Of those that were collected with this one. When it fails: add the file to `TOGETHER`."""
    users = set()
    for item in request.session.items:
        found = item._fixtureinfo.name2fixturedefs.get(fixture) if isinstance(item, pytest.Function) else None
        if found and found[-1].func.__module__ == module:
            users.add(item.nodeid.partition("::")[0])
    assert users <= set(distribution.TOGETHER[fixture])


class Item:
    def __init__(self, nodeid: str, *fixtures: str) -> None:
        self.nodeid = nodeid
        self.fixturenames = fixtures


def test_what_needs_no_models_comes_before_what_does_and_files_stay_together() -> None:
    shared = distribution.TOGETHER["server"]
    items = [
        Item("tests/test_a.py::test_1"),
        Item(f"{shared[0]}::test_1"),
        Item("tests/faults/test_b.py::test_1", "model_store"),
        Item("tests/jobs/test_c.py::test_1"),
        Item(f"{shared[-1]}::test_1", "model_store"),
        Item("tests/test_a.py::test_2"),
    ]
    assert [item.nodeid for item in distribution.in_order(items)] == [  # type: ignore[arg-type]
        "tests/jobs/test_c.py::test_1",
        "tests/test_a.py::test_1",
        "tests/test_a.py::test_2",
        "tests/faults/test_b.py::test_1",
        f"{shared[0]}::test_1",
        f"{shared[-1]}::test_1",
    ]
