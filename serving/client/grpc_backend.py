"""Predictions over gRPC."""

from __future__ import annotations

from typing import Any, NoReturn

from serving.client.predictions import Inputs, Prediction, Protocol


class GrpcBackend:
    """One protocol over gRPC, as `serving.client.predict.Backend`."""

    def __init__(self, target: str, protocol: Protocol, timeout: float) -> None:
        _missing(target, protocol, timeout)

    def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        raise NotImplementedError

    def metadata(self, model: str) -> dict[str, Any]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class AsyncGrpcBackend:
    """The same, as coroutines."""

    def __init__(self, target: str, protocol: Protocol, timeout: float) -> None:
        _missing(target, protocol, timeout)

    async def predict(self, model: str, inputs: Inputs) -> list[Prediction]:
        raise NotImplementedError

    async def metadata(self, model: str) -> dict[str, Any]:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def _missing(_target: str, _protocol: Protocol, _timeout: float) -> NoReturn:
    raise ValueError("this client does not speak gRPC")
