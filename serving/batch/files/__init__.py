"""Scoring files of rows, wherever fsspec reaches, column by column with Arrow.

Nothing here is imported by the service; it needs the extra `files`.
"""
