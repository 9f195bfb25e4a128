"""Whatever is in a file, it is decoded or refused, within a bound of memory, and the process lives.

`IMAGE_FUZZ_CASES=5000` asks more often than the suite has time for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from serving.settings.models import SAFE_FORMATS

CASES = int(os.environ.get("IMAGE_FUZZ_CASES", "300"))
SECONDS = 60
"""For one file; far more than the slowest takes."""


@pytest.mark.timeout(240 + CASES)
@pytest.mark.parametrize("kind", sorted(SAFE_FORMATS))
def test_a_damaged_file_is_decoded_or_refused(kind: str) -> None:
    seed = str(int.from_bytes(os.urandom(4)))
    command = [sys.executable, "-m", "tests.codecs.image_mutations", kind, str(CASES), seed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240 + CASES, check=False)
    assert done.returncode == 0, (seed, done.returncode, done.stderr[-2000:])
    found = json.loads(done.stdout)
    print(kind, seed, found)
    assert found["failures"] == [], seed
    assert found["decoded"] > CASES // 50, "the mutations leave some files as they are"
    assert found["refused"] > CASES // 4
    assert found["slowest"] < SECONDS
