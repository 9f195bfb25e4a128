"""`python -m train`: make the models that the configuration asks for and the store does not have yet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from serving.settings import Settings, get_settings
from train import cli
from train.errors import TrainingError
from train.progress import Reporter
from train.store import has_model


def _settings() -> Settings:
    try:
        return get_settings()
    except (FileNotFoundError, ValidationError) as error:
        raise TrainingError(f"configuration: {error}") from error


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
    """Make each enabled model whose tag is not in the store, InceptionV3 from `weights`.

    Raises:
        TrainingError: a model could not be made; those before it are in the store.
    """

    def make_iris(name: str) -> None:
        from train import iris

        iris.make(reporter, seed=seed, store_tag=name)

    def make_inception_v3(name: str) -> None:
        from train import inception_v3

        inception_v3.make(reporter, weights=weights, seed=seed, store_tag=name)

    settings = _settings()
    if settings.iris.enabled:
        _ensure(reporter, settings.iris.tag, make_iris)
    if settings.inception_v3.enabled:
        _ensure(reporter, settings.inception_v3.tag, make_inception_v3)


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
