"""Parts on a Ray cluster: Ray Data hands them to actors, each with one engine.

What travels is the description of a part and what came of it; the rows go from the input to an actor and from there
to the output, so both have to be reachable from every machine of the cluster. The model travels with the run: the
machines need this package and its extras `files` and `ray`, and no model store.

Ray sends this code and the model to its workers by cloudpickle. That stays within the cluster, where a client that can
connect can run code anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import ray
import ray.data

from serving.batch.files.parts import Part
from serving.batch.files.run import Plan
from serving.batch.files.scoring import Job, PartScorer, Tell
from serving.batch.files.target import Done
from serving.batch.reading import FilesError
from serving.placement import open_engine
from serving.settings.models import ModelSettings
from serving.store.models import ONNX_FILE, StoredModel


class RayActors:
    """Parts in the actors of a Ray cluster.

    Args:
        settings: which engine is to run the model, and how.
        address: of the cluster, as `ray.init` takes it; `auto` is the one that runs on this machine.
        actors: how many engines; one for each free CPU of the cluster unless given, and no more than parts.
    """

    def __init__(self, settings: ModelSettings, *, address: str, actors: int | None) -> None:
        self._settings = settings
        self._address = address
        self._actors = actors

    def __call__(self, plan: Plan, *, tell: Tell) -> Iterator[Done]:
        try:
            # its warnings are shown; the bar is ours
            context = ray.init(self._address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise FilesError(f"there is no Ray cluster at {self._address}: {error}") from error
        try:
            for done in self._run(plan):
                tell(done.rows - done.failed, done.failed)
                yield done
        finally:
            context.disconnect()
            ray.shutdown()

    def _run(self, plan: Plan) -> Iterator[Done]:
        free = int(ray.available_resources().get("CPU", 0))
        actors = min(self._actors or max(1, free), len(plan.parts))
        settings = ray.data.DataContext.get_current()
        settings.enable_progress_bars = settings.print_on_execution_start = False
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        parts = ray.data.from_items([asdict(part) for part in plan.parts], override_num_blocks=len(plan.parts))
        scored = parts.map_batches(
            Actor,
            fn_constructor_args=(plan.job, plan.model, graph_files(plan.model), self._settings),
            batch_size=1,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
        )
        try:
            for row in scored.iter_rows():
                if error := row.pop("error"):
                    raise FilesError(error)
                yield Done(**row)
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise FilesError(f"Ray: {lines[0]}") from error


class Actor:
    """One engine."""

    def __init__(self, job: Job, model: StoredModel, files: dict[str, bytes], settings: ModelSettings) -> None:
        with TemporaryDirectory() as directory:
            for name, content in files.items():
                file = Path(directory, name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            here = StoredModel(model.tag, Path(directory), model.created_at, model.metadata)
            self._score = PartScorer(job, model.metadata, open_engine(here, settings))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Score one part, whose fields Ray Data gives in columns. An error of the files is returned, not raised."""
        part = Part(**{name: _plain(values[0]) for name, values in batch.items()})
        try:
            found = asdict(self._score(part)) | {"error": ""}
        except (FilesError, OSError, pa.ArrowException) as error:
            found = asdict(Done(part.number, "", 0, 0, 0.0)) | {"error": str(error) or type(error).__name__}
        return {name: [value] for name, value in found.items()}


def graph_files(model: StoredModel) -> dict[str, bytes]:
    """The graph and the files that belong to it, by their paths in the stored model.

    Raises:
        FilesError: a path leads out of the stored model.
    """
    names = dict.fromkeys((ONNX_FILE, *model.metadata.files))
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise FilesError(f"model {model.tag}: the file {name!a} is not in the stored model")
    return {name: (model.path / name).read_bytes() for name in names}


def _plain(value: Any) -> Any:
    """Without NumPy's types."""
    return value.item() if hasattr(value, "item") else value
