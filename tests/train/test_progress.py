from __future__ import annotations

import pytest

from train.progress import Reporter


def test_without_a_terminal_each_step_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    with reporter.step("thinking [hard]"):
        pass
    reporter.say("done")

    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("thinking [hard] … ")
    assert first.endswith(" s")
    assert second == "done"
    assert err == ""


def test_warnings_and_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.warn("careful")
    reporter.error("broken")

    assert capsys.readouterr() == ("", "WARNING: careful\nerror: broken\n")


def test_quiet_prints_nothing_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    with reporter.step("thinking"):
        pass
    reporter.say("done")
    reporter.warn("careful")
    reporter.error("broken")

    assert capsys.readouterr() == ("", "error: broken\n")


def test_a_failing_step_does_not_claim_to_be_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), Reporter().step("thinking"):
        raise RuntimeError

    assert capsys.readouterr().out == ""
