"""`serving`: the command line of predictions, of jobs and their workers, of the batch pattern, of models, and of what
is running.

What a command needs is imported when it runs: `serving jobs` starts without BentoML, and `--help` without HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from serving import __version__
from serving.commands import exits
from serving.commands.batch import batch
from serving.commands.inventory import inventory
from serving.commands.jobs import jobs
from serving.commands.models import models
from serving.commands.predict import predict
from serving.commands.worker import worker
from serving.settings.proxies import spare_loopback


@click.group(epilog=exits.EXPLAINED)
@click.version_option(__version__, prog_name="serving", message="%(prog)s %(version)s")
def serving() -> None:
    """Models, predictions and jobs of a model_serving server, workers, rows scored in sets, and what is running."""


serving.add_command(batch)
serving.add_command(inventory)
serving.add_command(jobs)
serving.add_command(models)
serving.add_command(predict)
serving.add_command(worker)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status. An error is one line on standard error."""
    spare_loopback()
    try:
        status = serving.main(args=arguments, prog_name="serving", standalone_mode=False)
    except click.Abort:
        return exits.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return exits.USAGE
    except click.ClickException as error:
        click.echo(f"serving: {exits.one_line(error.format_message())}", err=True)
        return error.exit_code
    return status if isinstance(status, int) else exits.DONE
