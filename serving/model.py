"""The models that are served: what every adapter talks to, whatever protocol it speaks.

**Versions.** The standard protocols count versions, BentoML names them (`iris:jajphpxfxkub2ax4`). A model's version
here is the time of its creation in whole seconds since 1970: an integer that grows with each training, that is the same
on every machine the model is copied to, and what TensorFlow's own exporters name their directories. The tag's version
is a label of it, so that both lead to the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from serving.codecs.base import Codec
from serving.core.admission import Admission
from serving.core.engine import Engine, available_cores
from serving.core.errors import InvalidInputError, NotFoundError
from serving.core.tensors import Tensors, join, rows
from serving.metrics.inference import Statistics
from serving.placement import Submit
from serving.settings.models import ModelSettings
from serving.store.models import StoredModel

LATEST = ("", "0", "-1")
"""Versions that mean the latest one. OpenVINO Model Server's client sends 0, TensorFlow Serving's nothing."""
_LONGEST_NAME = 64


class Call(Protocol):
    """What a model has to know of the request that asks for a prediction, and what it leaves for the log."""

    size: str
    """As `rows=3`; the model fills it in."""
    model: str | None
    """Tag of the model that predicts."""

    def expires_in(self) -> float:
        """Seconds after which the answer is of no use; infinite without a time limit."""


def version_of(stored: StoredModel) -> int:
    """The integer that the standard protocols know the stored model's version by."""
    return int(datetime.fromisoformat(stored.created_at).timestamp())


class Model:
    """One served model.

    Args:
        name: as in the routes.
        codec: the meaning of its requests and answers.
        engine: where `/predict` computes in this process; `None` where its runner does.
        submit: to the batcher of its runner.
        admission: of requests that are held while they wait.
        statistics: of what the standard protocols ask.
        runner_ready: whether the runner answers.
        draining: whether this process is about to stop.

    Attributes:
        tag: name and version in the model store.
        version: see above.
        version_labels: other names of this version, the tag's among them.
        batches_protocols: whether requests of the standard protocols share engine calls.
    """

    def __init__(
        self,
        name: str,
        codec: Codec[Any],
        *,
        engine: Engine | None,
        submit: Submit,
        admission: Admission,
        statistics: Statistics,
        runner_ready: Callable[[], bool] = lambda: True,
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.codec = codec
        self.stored = codec.stored
        self.settings: ModelSettings = codec.settings
        self.metadata = codec.metadata
        self.signature = codec.signature
        self.limits = codec.limits
        self.batches_protocols = self.settings.batches_protocols
        self.tag = self.stored.tag
        self.version = version_of(self.stored)
        self.version_labels = (*self.settings.version_labels, self.tag.partition(":")[2])
        self.engine = engine
        self.admission = admission
        self.statistics = statistics
        self._submit = submit
        self._runner_ready = runner_ready
        self._draining = draining
        self._threads: Executor | None = None
        if codec.slow:
            threads = self.settings.image.decode_threads or available_cores()
            self._threads = ThreadPoolExecutor(threads, f"decode-{name}")

    def is_ready(self, *, batched: bool = False) -> bool:
        """Whether `/predict`, or `/predict/batched`, answers: what it needs is there and nothing drains."""
        here = self.engine is not None and not batched
        return not self._draining() and (here or self._runner_ready())

    @property
    def ready(self) -> bool:
        """Whether the standard protocols are answered."""
        return self.is_ready(batched=self.batches_protocols)

    def computes_here(self, *, batched: bool) -> bool:
        """Whether a prediction is computed at once in the event loop, so that no request is ever held."""
        return self.engine is not None and not batched and not self.codec.slow

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of the codec or the engine, in a thread where the codec is slow."""
        if self._threads is None:
            return function(*args)
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    async def predict(self, tensors: Tensors, call: Call, *, batched: bool) -> Tensors:
        """The outputs for tensors that the codec has made. Cancelling it drops the work that has not begun.

        Args:
            batched: share an engine call with other requests.

        Raises:
            InvalidInputError: the graph cannot compute these values or shapes.
            OverloadedError, UnavailableError, DeadlineExceededError: the queue is full, the runner is away, too late.
        """
        if self.engine is not None and not batched:
            outputs: Tensors = await self.in_thread(self.engine.run, tensors)
            return outputs
        return await self._submit(tensors, expires_in=call.expires_in(), alone=not batched)

    async def infer(self, offered: Tensors, call: Call) -> Tensors:
        """What the standard protocols answer: the outputs, and the label of each row of a classifier.

        The caller must watch for disconnects and enforce the time limit. Cancelling it drops the work that has not
        begun.

        Args:
            offered: one of the alternatives of `Codec.offered`, with right names and dtypes.

        Raises:
            InvalidInputError: shapes, number or values are not what the model takes.
            OverloadedError, UnavailableError, DeadlineExceededError: as `predict`.
        """
        started = perf_counter()
        call.model = self.tag
        try:
            number = self._check_number(offered)
            batched = self.batches_protocols
            if self.computes_here(batched=batched):
                tensors, call.size = self.codec.from_offered(offered)
                decoded = perf_counter()
                outputs = await self.predict(tensors, call, batched=batched)
            else:
                with self.admission.admit(number if self.codec.slow else 1):
                    tensors, call.size = await self._decode(offered, number)
                    decoded = perf_counter()
                    outputs = await self.predict(tensors, call, batched=batched)
            inferred = perf_counter()
            self.codec.check_outputs(outputs, self.codec.offered()[0][0].name)
            answered = self.codec.protocol_outputs(outputs)
        except BaseException:
            self.statistics.failed(seconds=perf_counter() - started)
            raise
        self.statistics.succeeded(
            rows=number,
            seconds=perf_counter() - started,
            infer_seconds=inferred - decoded,
            input_seconds=decoded - started,
        )
        return answered

    def _check_number(self, offered: Tensors) -> int:
        """How many rows there are; 1 where tensors have no rows in common."""
        if not self.signature.has_rows:
            return 1
        name, first = next(iter(offered.items()))
        number = len(first) if first.ndim else 0
        self.check_rows(name, number)
        return number

    def check_rows(self, name: str, number: int) -> None:
        """Refuse a request with more rows than one may have, or with none.

        Args:
            name: what the caller calls its rows.

        Raises:
            InvalidInputError: says how many are allowed.
        """
        if not 1 <= number <= self.limits.max_rows:
            raise InvalidInputError(f"{name}: 1 to {self.limits.max_rows} rows are allowed in a request, not {number}")

    async def _decode(self, offered: Tensors, number: int) -> tuple[Tensors, str]:
        """`from_offered`; where that is slow, each row in a thread of its own."""
        if self._threads is None:
            return self.codec.from_offered(offered)
        if any(len(array) != number for array in offered.values()):
            raise InvalidInputError("the tensors have different numbers of rows")
        decode = self.codec.from_offered
        futures: list[Future[tuple[Tensors, str]]] = [
            self._threads.submit(partial(decode, rows(offered, row, row + 1), first_row=row)) for row in range(number)
        ]
        try:
            decoded = await asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        finally:
            for future in futures:
                future.cancel()
        return join([tensors for tensors, _ in decoded]), _sum_sizes([size for _, size in decoded])

    def close(self) -> None:
        """End its threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _sum_sizes(sizes: list[str]) -> str:
    """`pixels=100` and `pixels=20` to `pixels=120`."""
    unit = sizes[0].partition("=")[0]
    return f"{unit}={sum(int(size.partition('=')[2]) for size in sizes)}"


class Models:
    """All models that are served, in the order of the configuration.

    Args:
        default: name of the model that routes without a name ask; empty for none.
    """

    def __init__(self, models: Iterable[Model], *, default: str = "") -> None:
        self._models = {model.name: model for model in models}
        self.default = self._models.get(default)

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)

    def __getitem__(self, name: str) -> Model:
        return self._models[name]

    @property
    def ready(self) -> bool:
        """Whether `/predict` of every model answers; false without any model."""
        return bool(self._models) and all(model.is_ready() for model in self)

    def find(self, name: str, version: str = "", label: str = "") -> Model:
        """The model of this name, and of this version or version label where one is asked for.

        Args:
            version: the number, the tag's, one of its labels, or one of `LATEST`.

        Raises:
            NotFoundError: it is not served.
        """
        model = self._models.get(name)
        if model is None:
            raise NotFoundError(f"there is no model {_short(name)}; served: {', '.join(self._models) or 'none'}")
        if version not in LATEST and version != str(model.version) and version not in model.version_labels:
            raise NotFoundError(f"model {name} has no version {_short(version)}; served: {model.version}")
        if label and label not in model.version_labels:
            raise NotFoundError(
                f"model {name} has no version labelled {_short(label)}; there is {', '.join(model.version_labels)}"
            )
        return model


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
