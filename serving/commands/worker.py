"""`serving worker`."""

from __future__ import annotations

import click

from serving.commands.exits import FAILED, Failure


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Run jobs of this model; may be given several times. Default: every model that the configuration enables.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Engine calls of a model at a time.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Port of /readyz and /metrics, 0 for a free one. Default: `jobs.worker_port` of the configuration.",
)
def worker(models: tuple[str, ...], concurrency: int, port: int | None) -> int:
    """Run jobs until SIGTERM or Ctrl-C.

    Any number of workers may run on any number of hosts, as long as all have the same `jobs.url`. The exit status
    is 0 after a drain within the grace period.
    """
    from serving.core.errors import ConfigurationError, ModelError
    from serving.settings.reading import read_settings

    try:
        from serving.jobs.supervisor import supervise
        from serving.store.source import prepare_models

        prepare_models(read_settings())
        return supervise(models=list(dict.fromkeys(models)), concurrency=concurrency, port=port)
    except (ConfigurationError, ModelError) as error:
        raise Failure(FAILED, str(error)) from error
