"""A wrong setting ends a command with one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from serving.settings import FILE_VARIABLE, get_settings
from serving.settings.reading import require_settings
from tests.server import BENTOML, ROOT


@pytest.fixture(autouse=True)
def _read_anew() -> None:
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SERVING__MODELS__IRIS__MAX_ROWS", "s3cret", "models.iris.max_rows: Input should be a valid integer"),
        ("SERVING__JOBS__LEASE_SECONDS", "-1", "jobs.lease_seconds: Input should be greater than or equal to 0.5"),
        ("SERVING__IRISES__TAG", "s3cret", "irises: Extra inputs are not permitted"),
        ("SERVING__METRICS__DURATION_BUCKETS", "[s3cret", 'error parsing value for field "metrics"'),
        (FILE_VARIABLE, "/nowhere.yaml", "no configuration file at /nowhere.yaml"),
    ],
)
def test_the_line_names_the_setting_and_no_value(
    variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        require_settings()
    line = ended.value.code
    assert isinstance(line, str), "Python prints it and exits with 1"
    assert line.startswith(f"error: configuration: {said}")
    assert "\n" not in line
    assert "s3cret" not in line


def test_all_faults_are_in_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVING__MODELS__IRIS__MAX_ROWS", "0")
    monkeypatch.setenv("SERVING__MODELS__IRIS__THREADS", "-1")
    with pytest.raises(SystemExit, match=r"models\.iris\.threads: .*; models\.iris\.max_rows: "):
        require_settings()


def test_a_file_that_is_not_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("iris: [\nx: }")
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    with pytest.raises(SystemExit) as ended:
        require_settings()
    line = str(ended.value.code)
    assert line.startswith("error: configuration: the file is not YAML: ")
    assert "\n" not in line


def test_right_settings_are_those_of_the_process() -> None:
    assert require_settings() is get_settings()


def test_bentoml_serve_ends_with_the_line() -> None:
    done = subprocess.run(
        [BENTOML, "serve", "service:svc", "--port", "1"],
        cwd=ROOT,
        env=os.environ | {"SERVING__MODELS__IRIS__MAX_ROWS": "many"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: configuration: models.iris.max_rows: Input should be a valid integer, unable to parse string as an "
        "integer"
    ]
