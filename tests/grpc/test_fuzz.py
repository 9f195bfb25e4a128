"""Whatever is sent, it is the caller's fault, and the next caller is answered.

`PROTOCOL_FUZZ_CASES=10000` asks more often than the suite has time for.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import grpc
import numpy as np
import pytest

from serving.codecs.image_decoding import sample_image
from tests.grpc.conftest import method
from tests.grpc.requests import infer_images, infer_rows, predict_images, predict_rows

pytestmark = pytest.mark.anyio

CASES = int(os.environ.get("PROTOCOL_FUZZ_CASES", "400"))
TOGETHER = 8
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
IMAGE = sample_image()
LENGTHS = (-(2**63), -1, 0, 1, 2, 3, 4, 5, 299, 1024, 1025, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
TEXTS = (
    "",
    "iris",
    "inception_v3",
    "features",
    "image",
    "pixels",
    "FP32",
    "BYTES",
    "UINT8",
    "FP16",
    "INT64",
    "x" * 5000,
)
MESSAGES = [
    ("ModelInfer", infer_rows()),
    ("ModelInfer", infer_rows(np.ones((3, 4)), raw=False, id="1")),
    ("ModelInfer", infer_images(IMAGE)),
    ("ModelInfer", infer_images(b"", b"1", raw=False)),
    ("Predict", predict_rows()),
    ("Predict", predict_rows(np.ones((2, 4)), content=False)),
    ("Predict", predict_images(IMAGE, signature="probabilities")),
]


def scalar(chance: random.Random, field: Any) -> Any:
    """A value that the field's type has, and that its meaning hardly ever has."""
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            return chance.choice((b"", b"\0", b"\xff" * 7, chance.randbytes(chance.randrange(64)), IMAGE[:-9]))
        return chance.choice(TEXTS)
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return chance.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    if field.cpp_type == field.CPPTYPE_BOOL:
        return chance.random() < 0.5
    if field.cpp_type == field.CPPTYPE_INT64:
        return chance.choice(LENGTHS)
    return chance.choice((0, 1, 2, 7, 77, 2**31 - 1))


def disturb(chance: random.Random, given: Any) -> None:
    """Change one thing, somewhere in a message."""
    fields = given.DESCRIPTOR.fields
    field = chance.choice(
        [each for each, _ in given.ListFields()] if chance.random() < 0.7 and given.ListFields() else fields
    )
    if chance.random() < 0.1:
        given.ClearField(field.name)
        return
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entries = getattr(given, field.name)
        value = field.message_type.fields_by_name["value"]
        name = (
            chance.choice(list(entries) or ["classification", "shared_memory_region"])
            if chance.random() < 0.7
            else chance.choice(TEXTS)
        )
        if value.message_type is not None:
            disturb(chance, entries[name])
        return
    if field.is_repeated:
        values = getattr(given, field.name)
        if field.message_type is not None:
            disturb(chance, chance.choice(values) if len(values) and chance.random() < 0.7 else values.add())
        elif len(values) and chance.random() < 0.7:
            values[chance.randrange(len(values))] = scalar(chance, field)
        else:
            values.extend([scalar(chance, field)] * chance.choice((1, 2, 1000)))
        return
    if field.message_type is not None:
        disturb(chance, getattr(given, field.name))
        getattr(given, field.name).SetInParent()
        return
    setattr(given, field.name, scalar(chance, field))


def case(seed: int) -> tuple[str, bytes]:
    chance = random.Random(seed)
    name, valid = chance.choice(MESSAGES)
    given = type(valid)()
    given.CopyFrom(valid)
    for _ in range(chance.choice((1, 1, 2, 4))):
        disturb(chance, given)
    body = bytearray(given.SerializeToString())
    if body and chance.random() < 0.3:
        for _ in range(chance.choice((1, 1, 3, 30))):
            body[chance.randrange(len(body))] = chance.randrange(256)
        if chance.random() < 0.3:
            del body[chance.randrange(len(body)) :]
    return name, bytes(body)


async def test_nothing_that_is_sent_is_an_internal_error(channel: grpc.aio.Channel) -> None:
    async def send(seed: int) -> tuple[grpc.StatusCode, str]:
        name, body = case(seed)
        call = method(channel, name)(body, timeout=60)
        return await call.code(), await call.details() or ""

    found: set[grpc.StatusCode] = set()
    for start in range(0, CASES, TOGETHER):
        answers = await asyncio.gather(*(send(seed) for seed in range(start, start + TOGETHER)))
        for seed, (code, details) in enumerate(answers, start):
            assert code in ALLOWED, f"case {seed}: {code} {details}"
            assert len(details) < 500, f"case {seed}"
            found.add(code)
    assert found >= ALLOWED - {grpc.StatusCode.RESOURCE_EXHAUSTED}, "the cases are of every kind"
    await method(channel, "ModelInfer")(infer_rows(), timeout=60)
