"""One loaded model each: arrays in, arrays out. Engines know no HTTP, no BentoML service and no queue."""

from serving.engines.inception_v3 import InceptionV3Engine
from serving.engines.iris import IrisEngine
from serving.engines.openvino_inception_v3 import OpenVinoInceptionV3Engine
from serving.engines.selection import ImageEngine, open_inception_v3

__all__ = ["ImageEngine", "InceptionV3Engine", "IrisEngine", "OpenVinoInceptionV3Engine", "open_inception_v3"]
