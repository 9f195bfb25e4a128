"""The port that HTTP listens on."""

from __future__ import annotations
