"""The tests of the real image need a container engine and minutes: only `make image-test` runs them."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("IMAGE_TEST") else ["test_*.py"]
