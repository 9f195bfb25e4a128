"""The message definitions: compiled from what stands in the repository, and those of the public protocols."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2

from serving.grpc.messages import DESCRIPTORS, INFERENCE, MODELS, POOL, PREDICTION, message

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOS = ROOT / "serving/grpc/protos"
NAMES = sorted(str(file.relative_to(PROTOS)) for file in PROTOS.rglob("*.proto"))


def test_what_is_committed_is_what_the_definitions_compile_to(tmp_path: Path) -> None:
    fresh = tmp_path / "descriptors.binpb"
    options = [f"--proto_path={PROTOS}", "--include_imports", f"--descriptor_set_out={fresh}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *NAMES], check=True)
    sets = [descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes()) for file in (DESCRIPTORS, fresh)]
    assert sets[0] == sets[1], "run `make protos`"


def _flat(messages: Any) -> Iterator[Any]:
    for each in messages:
        yield each
        yield from _flat(each.nested_types)


def described() -> dict[str, Any]:
    """Every message, enum and method of ours, as its full name and what goes over the wire."""
    found: dict[str, Any] = {}
    for name in NAMES:
        file = POOL.FindFileByName(name)
        for each in _flat(file.message_types_by_name.values()):
            fields = {}
            for field in each.fields:
                of = field.message_type or field.enum_type
                fields[field.name] = [field.number, field.type, field.is_repeated, of.full_name if of else None]
            found[each.full_name] = fields
        for enum in file.enum_types_by_name.values():
            found[enum.full_name] = {value.name: value.number for value in enum.values}
        for service in file.services_by_name.values():
            found[service.full_name] = {
                method.name: [method.input_type.full_name, method.output_type.full_name] for method in service.methods
            }
    return found


# In a process of its own, with an empty package `tensorflow`: importing the real one takes ten seconds, and the
# messages below it do not need it.
PUBLIC = """
import json, pathlib, sys, types
import tensorflow_serving
tensorflow = sys.modules["tensorflow"] = types.ModuleType("tensorflow")
tensorflow.__path__ = [str(pathlib.Path(tensorflow_serving.__path__[0]).parent / "tensorflow")]
from google.protobuf import descriptor_pool
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2
from tritonclient.grpc import service_pb2
pool = descriptor_pool.Default()
found = {}
for name in json.load(sys.stdin):
    try:
        each = pool.FindMessageTypeByName(name)
        found[name] = {f.name: [f.number, f.type, f.is_repeated, of.full_name if (of := f.message_type or f.enum_type)
            else None] for f in each.fields}
        continue
    except KeyError:
        pass
    try:
        found[name] = {value.name: value.number for value in pool.FindEnumTypeByName(name).values}
        continue
    except KeyError:
        pass
    service = pool.FindServiceByName(name)
    found[name] = {m.name: [m.input_type.full_name, m.output_type.full_name] for m in service.methods}
print(json.dumps(found))
"""


def test_names_numbers_and_types_are_those_of_the_public_clients() -> None:
    ours = described()
    assert {PREDICTION, MODELS, INFERENCE, "tensorflow.TensorProto"} <= ours.keys()
    done = subprocess.run(
        [sys.executable, "-c", PUBLIC],
        input=json.dumps(sorted(ours)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    public = json.loads(done.stdout)
    for name, members in ours.items():
        assert members.items() <= public[name].items(), name


def test_the_messages_are_in_no_pool_that_others_use() -> None:
    """Otherwise whoever imports TensorFlow or a client of either protocol after us could not."""
    request = message("inference.ModelInferRequest")
    assert request.DESCRIPTOR.file.pool is POOL
    from tritonclient.grpc import service_pb2

    theirs = service_pb2.ModelInferRequest(model_name="iris", raw_input_contents=[b"1"])
    assert request.FromString(theirs.SerializeToString()).raw_input_contents == [b"1"]
