"""The messages of the public protocols, compiled by `make protos` from the definitions in `protos/`.

In a descriptor pool of their own: TensorFlow, its client and Triton's register the same names in the process' default
pool, which refuses a second definition. So nothing here gets in the way of them, nor they in ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool

DESCRIPTORS = Path(__file__).parent / "descriptors.binpb"
INFERENCE = "inference.GRPCInferenceService"
PREDICTION = "tensorflow.serving.PredictionService"
MODELS = "tensorflow.serving.ModelService"


def _pool() -> DescriptorPool:
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _pool()


def message(name: str) -> Any:
    """The class of a message by its full name, such as `tensorflow.TensorProto`."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))
