"""`python -m train`: make the models that the configuration asks for and the store does not have yet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from serving.core.errors import ConfigurationError
from serving.settings import Settings
from serving.settings.reading import read_settings
from serving.store.bentoml_store import has_model
from train import cli
from train.errors import TrainingError
from train.progress import Reporter


def _settings() -> Settings:
    try:
        return read_settings()
    except ConfigurationError as error:
        raise TrainingError(str(error)) from error


def _ensure(reporter: Reporter, tag: str, make: Callable[[str], object]) -> None:
    """Call `make(name)` unless `tag` is in the store."""
    name, _, version = tag.partition(":")
    if has_model(tag):
        reporter.say(f"{tag} is in the model store")
    elif version in {"", "latest"}:
        make(name)
    else:
        raise TrainingError(
            f"the configuration asks for {tag}, which is not in the model store, and a new model would be another "
            f"version: use {name}:latest or import that version"
        )


def make_missing(reporter: Reporter, *, weights: str, seed: int) -> None:
    """Make each enabled model that comes with the project and is not in the store; InceptionV3 from `weights`.

    Raises:
        TrainingError: a model could not be made; those before it are in the store.
    """

    def make_iris(name: str) -> None:
        from train import iris

        iris.make(reporter, seed=seed, store_tag=name)

    def make_inception_v3(name: str) -> None:
        from train import inception_v3

        inception_v3.make(reporter, weights=weights, seed=seed, store_tag=name)

    makers: dict[str, Callable[[str], None]] = {"iris": make_iris, "inception_v3": make_inception_v3}
    for name, entry in _settings().served.items():
        if name in makers:
            _ensure(reporter, entry.tag, makers[name])
        elif not has_model(entry.tag):
            reporter.warn(f"{entry.tag} is not in the model store; add it with `serving models add`")


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.make_parser("train", __doc__.partition(": ")[2])
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random (%(default)s)")
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="auto|imagenet|random|FILE",
        help="InceptionV3's weights, as in `python -m train.inception_v3` (%(default)s)",
    )

    def command(arguments: argparse.Namespace, reporter: Reporter) -> None:
        make_missing(reporter, weights=arguments.weights, seed=arguments.seed)

    return cli.run(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
