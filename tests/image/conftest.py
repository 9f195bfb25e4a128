"""The tests of the real image need a container engine and minutes: only `make image-test` runs them.

With IMAGE_TEST=keep the images stay in .build/image, so that the next run builds what has changed.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("IMAGE_TEST") else ["test_*.py"]
