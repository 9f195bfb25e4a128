"""Which Pythons are promised, and what make does on another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = [
    line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d+$", line) is not None
]
HERE = "{}.{}".format(*sys.version_info)
TOOLS = ("bash", "dirname", "sed", "make")


def test_what_is_classified_is_what_can_be_installed() -> None:
    promised = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(6, 30) if promised.contains(f"3.{minor}.9")] == SUPPORTED
    assert HERE in SUPPORTED


def test_the_readme_names_them() -> None:
    assert f"CPython {', '.join(SUPPORTED[:-1])} or {SUPPORTED[-1]}" in (ROOT / "README.md").read_text()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A PATH with what make needs, without any Python."""
    directory = tmp_path / "path"
    directory.mkdir()
    for name in TOOLS:
        found = next(
            folder for folder in map(Path, os.environ["PATH"].split(os.pathsep)) if os.access(folder / name, os.X_OK)
        )
        (directory / name).symlink_to(found / name)
    return directory


def add(path: Path, name: str, version: str) -> Path:
    """Stands for a Python of a version: says what it is, and makes what can be told from an environment."""
    program = path / name
    program.write_text(
        f"""#!{path}/bash
case "$1 $2" in
    *platform*) echo "{version}" ;;
    *base_prefix*) echo "{program}" ;;
    "-m venv") echo "$3" > "{path}/made-with-{name}" ;;
esac
"""
    )
    program.chmod(0o755)
    return program


def make_environment(path: Path, venv: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The first thing that every target does."""
    return subprocess.run(
        [path / "make", f"{venv}/pyvenv.cfg", f"VENV={venv}", *arguments],
        cwd=ROOT,
        env={"PATH": str(path), "HOME": str(path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that stands before make's own."""
    assert done.returncode != 0
    line, of_make = done.stderr.splitlines()
    assert of_make.startswith("make: ***")
    return line


@pytest.mark.parametrize("version", ["CPython 3.10.13", "CPython 2.7.18", "CPython 3.14.0", "PyPy 3.11.9"])
def test_another_python_is_told_in_one_line_what_to_do(path: Path, tmp_path: Path, version: str) -> None:
    python = add(path, "python3", version)
    names = f"{', '.join(SUPPORTED[:-1])} or {SUPPORTED[-1]}"
    found = version.removeprefix("CPython ")
    for arguments, program in (([f"PYTHON={python}"], python), ([], "python3")):
        line = told(make_environment(path, tmp_path / "venv", *arguments))
        assert line.startswith(f"model_serving needs Python {names}, and {program} is {found}: make PYTHON=/path/")
    assert not (tmp_path / "venv").exists()


def test_no_python_at_all(path: Path, tmp_path: Path) -> None:
    assert "and python3 cannot be run: make PYTHON=" in told(make_environment(path, tmp_path / "venv"))


@pytest.mark.parametrize("minor", SUPPORTED)
def test_a_supported_one_is_chosen_where_python3_is_another(path: Path, tmp_path: Path, minor: str) -> None:
    add(path, "python3", "CPython 3.10.13")
    add(path, f"python{minor}", f"CPython {minor}.1")
    assert make_environment(path, tmp_path / "venv").returncode == 0
    assert (path / f"made-with-python{minor}").read_text() == f"{tmp_path}/venv\n"


def environment(directory: Path) -> Path:
    """A finished one."""
    (directory / "bin").mkdir(parents=True)
    (directory / "pyvenv.cfg").touch()
    (directory / ".installed").touch()
    return directory


def test_an_environment_that_can_be_used_is_left_alone(path: Path, tmp_path: Path) -> None:
    python = add(path, "python3", f"CPython {SUPPORTED[0]}.1")
    venv = environment(tmp_path / "venv")
    (venv / "bin" / "python").symlink_to(python)
    for arguments in ([], [f"PYTHON={python}"]):
        done = make_environment(path, venv, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
    assert list(path.glob("made-with-*")) == []


@pytest.mark.parametrize("stale", ["gone", "unsupported", "another", "interrupted"])
def test_an_environment_that_cannot_be_used_is_made_anew(path: Path, tmp_path: Path, stale: str) -> None:
    python = add(path, "python3", f"CPython {SUPPORTED[0]}.1")
    venv = environment(tmp_path / "venv")
    program = venv / "bin" / "python"
    arguments = []
    if stale == "gone":
        program.symlink_to(tmp_path / "nowhere")
    elif stale == "unsupported":
        program.symlink_to(add(path, "python3.10", "CPython 3.10.13"))
    elif stale == "another":
        program.symlink_to(add(path, f"python{SUPPORTED[1]}", f"CPython {SUPPORTED[1]}.1"))
        arguments = [f"PYTHON={python}"]
    else:
        (venv / ".installed").unlink()
        program.write_text(python.read_text().replace("esac", "    *pip*) exit 1 ;;\nesac"))
        program.chmod(0o755)
    done = make_environment(path, venv, *arguments)
    assert done.returncode == 0
    assert f"{venv} is made anew" in done.stderr
    # Emptied first: `venv` would leave the old Python in it.
    assert (path / "made-with-python3").read_text() == "--clear\n"


def test_a_directory_that_is_no_environment_is_not_emptied(path: Path, tmp_path: Path) -> None:
    add(path, "python3", f"CPython {SUPPORTED[0]}.1")
    (tmp_path / "mine").mkdir()
    assert make_environment(path, tmp_path / "mine").returncode == 0
    assert (path / "made-with-python3").read_text() == f"{tmp_path}/mine\n"


def test_what_make_runs_writes_utf_8_whatever_the_locale_is(path: Path, tmp_path: Path) -> None:
    venv = environment(tmp_path / "venv")
    version = f"CPython {SUPPORTED[0]}.1"
    program = add(venv / "bin", "python", version)
    program.write_text(
        f"""#!{path}/bash
case "$1 $2" in
    *platform*) echo "{version}" ;;
    "-m train") exec '{sys.executable}' -c 'import sys; print(sys.flags.utf8_mode)' ;;
esac
"""
    )
    # Few systems have a locale that is not UTF-8. In this one Python needs no mode of its own, and has it if told.
    done = subprocess.run(
        [path / "make", "models", f"VENV={venv}"],
        cwd=ROOT,
        env={"PATH": str(path), "HOME": str(path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"1\n")


def test_a_path_that_make_cannot_take(path: Path, tmp_path: Path) -> None:
    done = make_environment(path, tmp_path / "a b")
    assert done.returncode != 0
    assert "a path without spaces" in done.stderr
