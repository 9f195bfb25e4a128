"""A server of models of every kind."""

from __future__ import annotations

from tests.client.conftest import any_models

__all__ = ["any_models"]
