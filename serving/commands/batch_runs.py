"""`serving batch score`: one run, or repeated runs."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from serving.commands.batch_display import Bar, summarise
from serving.commands.exits import Failure, one_line

if TYPE_CHECKING:
    from serving.batch.database import Database
    from serving.batch.scorer import Plan, Scorer, Summary
    from serving.settings import Settings


class Runner:
    """Runs `plan` and prints the result."""

    def __init__(
        self, database: Database, settings: Settings, plan: Plan, deadline: datetime | timedelta | None
    ) -> None:
        from serving.batch.predictor import predictors
        from serving.batch.run_limits import Stopper

        self._database = database
        self._models = predictors(settings)
        self._plan = plan
        self._deadline = deadline
        self._stopper = Stopper()

    def once(self) -> Summary:
        from serving.batch.run_limits import stop_on_signals

        with stop_on_signals(self._stopper):
            return self._run()

    def repeat(self, seconds: float) -> None:
        """Run every `seconds` until a signal. A run that fails is reported, and the next one tries again."""
        from serving.batch.schedule import run_every

        run_every(
            seconds,
            self._run_and_report,
            stop=self._stopper.stop,
            skipped=lambda: click.echo("serving: the last run still goes on; this one is skipped", err=True),
        )

    def _run_and_report(self) -> None:
        from serving.commands.batch_options import failures

        try:
            with failures(self._database):
                self._run()
        except Failure as error:
            click.echo(f"serving: {one_line(error.format_message())}", err=True)

    def _run(self) -> Summary:
        from serving.batch.scorer import Scorer

        with Bar() as bar:
            scorer: Scorer = Scorer(self._database, self._models, progress=bar, stopper=self._stopper)
            summary = scorer.run(replace(self._plan, deadline=self._deadline))
        summarise(_fields(summary), _text(summary))
        return summary


def _fields(summary: Summary) -> dict[str, Any]:
    return asdict(summary) | {
        "seconds": round(summary.seconds, 3),
        "rows_per_second": round(summary.rows_per_second, 1),
    }


def _text(summary: Summary) -> str:
    parts = [f"run {summary.run}: {summary.outcome}", f"{summary.succeeded:,} rows predicted"]
    if summary.failed:
        parts.append(f"{summary.failed:,} failed")
    if summary.remaining:
        parts.append(f"{summary.remaining:,} left")
    return ", ".join([*parts, f"{summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s"])
