"""Figures of what the standard protocols ask: exact sums, and no more series than a model may have."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from serving.metrics.inference import InferenceMetrics, Statistics, read_sums


def test_requests_of_any_size_make_few_series_and_exact_sums() -> None:
    registry = CollectorRegistry()

    async def ask() -> None:
        statistics = Statistics("m", InferenceMetrics(registry=registry))
        for rows in range(1, 1025):
            statistics.succeeded(rows=rows, seconds=2.0, infer_seconds=1.0)
        statistics.flush()

    asyncio.run(ask())
    sums = read_sums("m", registry.collect())
    assert (sums.successes, sums.executions, sums.rows) == (1024, 1024, 1024 * 1025 // 2)
    assert (sums.success_seconds, sums.infer_seconds) == (2048, 1024)
    assert sorted(sums.batches) == [*range(1, 65), 128, 256, 512, 1024]
    assert sum(batch.count for batch in sums.batches.values()) == 1024
    assert sums.batches[128].count == 64
