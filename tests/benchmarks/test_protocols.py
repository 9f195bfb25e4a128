import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import grpc_contenders, protocols
from benchmarks.measurement import Measurement, Outcome, Point
from benchmarks.protocol_contenders import BLOCKS, contenders
from benchmarks.protocols import PEERS
from benchmarks.server import Server
from serving.protocols.open_inference.json import header_length, read_request
from serving.store.models import open_model


def measured(name: str, rates: dict[int, float]) -> Measurement:
    points = {c: Point(c, rate, rate, rate, 1.0, 2.0, 0, 0) for c, rate in rates.items()}
    return Measurement(Server(name, name, lambda _: [], "/"), points, 1.0, 100.0, 200.0)


def outcome(ours: float = 100.0, peer: float = 100.0, json_rate: float = 10.0, binary_rate: float = 30.0) -> Outcome:
    found = {name: measured(name, dict.fromkeys((1, 8, 32), ours)) for name in PEERS}
    for names in PEERS.values():
        found |= {name: measured(name, dict.fromkeys((1, 8, 32), peer)) for name in names}
    found |= {name: measured(name, {8: rate}) for name, rate in zip(BLOCKS, (json_rate, binary_rate), strict=True)}
    return Outcome(measurements=found)


def test_every_target_is_met_at_its_bound_and_can_be_missed():
    count = len(protocols.targets(outcome()))
    assert [target.met for target in protocols.targets(outcome())] == [True] * count
    assert [target.met for target in protocols.targets(outcome(ours=99.9))] == [False] * (count - 1) + [True]
    assert [target.met for target in protocols.targets(outcome(binary_rate=29.9))] == [True] * (count - 1) + [False]
    assert {target.met for target in protocols.targets(Outcome())} == {None}


@pytest.fixture
def model(model_store: Path) -> Path:  # noqa: ARG001 - the model has to be there
    from benchmarks.models import model_file

    return model_file("iris")


def test_every_server_is_named_and_has_a_request_that_it_can_read(model: Path):
    every = {contender.server.name: contender for contender in contenders(model)}
    over_grpc = {contender.server.name for contender in grpc_contenders.contenders(model)}
    assert every.keys() | over_grpc == set(protocols.SERVERS)
    (features,) = open_model("iris:latest").metadata.inputs
    for name, contender in every.items():
        if "v2" in name:
            question = contender.question
            header = question.headers.get("Inference-Header-Content-Length")
            length = header_length(header.encode() if header else None, question.body)
            request = read_request(question.body, length)
            (given,) = request.inputs
            rows = 1024 if "1024" in name else 1
            assert (given.name, given.datatype, list(given.shape)) == (features.name, "FP32", [rows, 4])
            assert given.data is not None
            values = given.data.read(features, (rows, 4), allow_nan=False)
            assert values.tolist() == [np.float32([5.1, 3.5, 1.4, 0.2]).tolist()] * rows, name
            assert all(output.binary == ("binary" in name) for output in request.outputs)


def test_a_wrong_answer_is_seen_in_json_and_in_binary(model: Path):
    question = {contender.server.name: contender.question for contender in contenders(model)}["service_v2_binary"]
    for row, right in (([0.9744952, 0.0242291, 0.0012757], True), ([0.1, 0.8, 0.1], False)):
        given = {"name": "probabilities", "shape": [1, 3], "datatype": "FP32"}
        in_json = json.dumps({"outputs": [given | {"data": row}]}).encode()
        in_binary = json.dumps({"outputs": [given]}).encode() + np.array(row, "<f4").tobytes()
        for answer in (in_json, in_binary):
            if right:
                question.check(answer)
            else:
                with pytest.raises(ValueError, match="not"):
                    question.check(answer)
