"""The routes that predict: `/{model}/predict`, `/label`, `/batched` and `/predict/test`."""

from __future__ import annotations

from typing import Any

from serving.http.deadline import deadline
from serving.http.disconnect import while_connected
from serving.http.exchange import Answer, Exchange
from serving.model import Model


class Predict:
    """Answers predictions of one model.

    Args:
        batched: share engine calls with the requests that arrive at the same time.
        label: name the most probable class only.
    """

    def __init__(self, model: Model, *, batched: bool = False, label: bool = False) -> None:
        self._model = model
        self._codec = model.codec
        self._batched = batched
        self._label = label
        self._answer = model.codec.label if label else model.codec.answer
        self._here = model.computes_here(batched=batched)

    async def __call__(self, exchange: Exchange) -> Answer:
        exchange.model = self._model.tag
        if self._here and exchange.is_plain_json:
            return self._compute(exchange, await self._read_plain(exchange))
        if not self._here:
            # Under overload most requests end here: reading and judging their bodies would take the time of those
            # that are answered.
            self._model.admission.check()
        async with deadline(exchange):
            if exchange.is_plain_json:
                request = await self._read_plain(exchange)
            else:
                request = await self._codec.read(exchange.request(), label=self._label)
            if self._here:
                return self._compute(exchange, request)
            async with while_connected(exchange.receive):
                return await self._wait(exchange, request)

    async def test(self, exchange: Exchange) -> Answer:
        """Predict the built-in sample: what a deployment check calls."""
        exchange.model = self._model.tag
        sample = self._codec.sample()
        if self._here:
            return self._compute(exchange, sample)
        async with deadline(exchange):
            return await self._wait(exchange, sample)

    async def _read_plain(self, exchange: Exchange) -> Any:
        body = await exchange.body()
        request = self._codec.read_fast(body)
        if request is None:
            request = await self._codec.read(exchange.request(body), label=self._label)
        return request

    def _compute(self, exchange: Exchange, request: Any) -> Answer:
        """At once, in the event loop: the call is shorter than the way to a thread and back."""
        tensors, exchange.size = self._codec.tensors(request)
        engine = self._model.engine
        assert engine is not None  # noqa: S101 - what `computes_here` says
        return Answer(self._answer(engine.run(tensors), request))

    async def _wait(self, exchange: Exchange, request: Any) -> Answer:
        model = self._model
        with model.admission.admit():
            tensors, exchange.size = await model.in_thread(self._codec.tensors, request)
            outputs = await model.predict(tensors, exchange, batched=self._batched)
        return Answer(self._answer(outputs, request))
