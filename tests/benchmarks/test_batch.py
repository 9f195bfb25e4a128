"""The batch benchmark: its targets, and the whole of it with a few rows."""

import pytest

from benchmarks import batch
from benchmarks.generators import find_generator
from benchmarks.options import Options


def result(score=100.0, peak=400.0, two=160.0):
    return batch.DatabaseResult(1.0, score, 1.0, dict.fromkeys(batch.STEPS, 1.0), peak, 1.0, two)


def met(engine=1e6, files_peak=400.0, **changes) -> list[bool | None]:
    files = batch.FilesResult(engine, 2e6, 1.0, 1.0, files_peak)
    return [target.met for target in batch.targets(batch.Results({"batch_postgresql": result(**changes)}, files))]


def test_every_target_is_met_at_its_bound():
    # the first four are of the other databases
    assert met() == [None] * 4 + [True] * 5


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"score": 99.0}, 4),
        ({"peak": 401.0}, 5),
        ({"two": 159.0}, 6),
        ({"engine": 0.99e6}, 7),
        ({"files_peak": 401.0}, 8),
    ],
)
def test_each_target_can_be_missed(changes, missed):
    found = met(**changes)
    assert found[missed] is False


def test_a_full_run_has_the_sizes_of_the_targets():
    assert batch.sizes(None) == batch.Sizes(1_000_000, 2_000, 10_000_000)
    assert batch.sizes(1000) == batch.Sizes(1000, 200, 10_000)


@pytest.mark.usefixtures("model_store")
def test_a_small_run_measures_everything():
    said = []
    only = frozenset({"batch_sqlite", "batch_files"})
    options = Options(find_generator("asyncio"), said.append, only=only, rows=500)
    section = batch.run(options)
    assert section.failures == []
    assert [table.title for table in section.tables] == [
        "Rows of a database", "Where the time goes, in seconds", "Rows of files", "Targets"
    ]  # fmt: skip
    rows, steps, files, _ = (table.rows for table in section.tables)
    assert [row[0] for row in rows] == ["batch_sqlite"]
    assert all(float(rate.replace(",", "")) > 0 for rate in rows[0][1:3])
    assert len(steps[0]) == len(batch.STEPS) + 1
    assert all(float(row[1].replace(",", "")) > 0 for row in files)
    assert "5,000 rows of Parquet" in " ".join(section.notes)
    assert len(said) == 4
