"""What several programs send."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def image(tmp_path: Path, photo: bytes) -> Path:
    file = tmp_path / "photo.jpg"
    file.write_bytes(photo)
    return file
