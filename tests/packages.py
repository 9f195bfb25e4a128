"""Files out of wheels that are not installed: models that nobody here made, and photos.

`make test-packages` fetches the wheels of requirements/test-packages.txt into .build/wheels, with their hashes; .ci/run
requires them.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import NoReturn

import pytest

WHEELS = Path(__file__).resolve().parent.parent / ".build/wheels"
NO_SKIPS_VARIABLE = "CI_FORBIDS_SKIPS"
MAGIKA = "magika/models/standard_v3_3/model.onnx"
TEXT_DIRECTION = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"


def missing(message: str) -> NoReturn:
    """Skip a test for want of something, or fail it where everything has to be there."""
    if os.environ.get(NO_SKIPS_VARIABLE):
        pytest.fail(message)
    pytest.skip(message)


def _wheel(package: str) -> zipfile.ZipFile:
    found = sorted(WHEELS.glob(f"{package.replace('-', '_')}-*.whl"))
    if not found:
        missing(f"there is no wheel of {package} in .build/wheels; `make test-packages` fetches it")
    return zipfile.ZipFile(found[-1])


def read(package: str, member: str) -> bytes:
    """The file `member` of a package; skips the test where the wheel has not been fetched."""
    with _wheel(package) as wheel:
        return wheel.read(member)


def unpack(package: str, directory: Path) -> Path:
    """All files of a package below `directory`, for PYTHONPATH."""
    with _wheel(package) as wheel:
        wheel.extractall(directory)
    return directory


def save(package: str, member: str, directory: Path) -> Path:
    """As `read`, into a file of the same name."""
    file = directory / Path(member).name
    file.write_bytes(read(package, member))
    return file


def magika(directory: Path) -> Path:
    """Google's classifier of file types: `bytes` int32 [N, 2048] to `target_label` float32 [N, 214]."""
    return save("magika", MAGIKA, directory)


def text_direction(directory: Path) -> Path:
    """PaddleOCR's classifier of text that stands on its head: `x` float32 [N, 3, height, width] to [N, 2]."""
    return save("rapidocr-onnxruntime", TEXT_DIRECTION, directory)
