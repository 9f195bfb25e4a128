"""Scoring files of rows: Parquet and CSV datasets, wherever fsspec reaches.

Nothing here is imported by the service; it needs the extra `files`.
"""

from __future__ import annotations


class FilesError(Exception):
    """The run cannot be done as it was asked for. For the operator: says what to change."""
