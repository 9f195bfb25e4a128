"""The comparison of outputs sees what matters and nothing else."""

from __future__ import annotations

import pytest

from tests.docs.normalised import same

IRIS = '{"prediction":[[0.9744952321052551,0.024229075759649277,0.0012757248478010297]]}'


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (IRIS, IRIS.replace("0.9744952321052551", "0.9744952")),
        ("iris:p2rsflhfro2baax4 ms=0.2", "iris:iizi5yhfr2siaax4 ms=1.75"),
        ('"created_at":"2026-11-21T09:11:11+00:00"', '"created_at":"2027-01-02T03:04:05+00:00"'),
        ('{"numpy":"2.4.6"}', '{"numpy":"2.5.0rc1"}'),
        (f'"weights_sha256":"{"a" * 64}"', f'"weights_sha256":"{"b" * 64}"'),
        (
            '{"label":"class_0513","class_id":513,"probability":0.99}',
            '{"label":"class_0008","class_id":8,"probability":1e-05}',
        ),
        ("date: today\r\nx", "date: tomorrow\nx\n"),
    ],
)
def test_what_differs_from_run_to_run_is_the_same(actual: str, expected: str) -> None:
    assert same(actual, expected)


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (IRIS, IRIS.replace("0.9744", "0.9746")),
        (IRIS, IRIS.replace(",0.0012757248478010297", "")),
        (IRIS, IRIS.replace("prediction", "predictions")),
        ('{"prediction":["setosa"]}', '{"prediction":["virginica"]}'),
        (
            '{"label":"class_0513","class_id":513,"probability":0.99}',
            '{"label":"tench","class_id":513,"probability":0.99}',
        ),
        ("HTTP/1.1 200 OK", "HTTP/1.1 201 OK"),
        ("x-request-id: readme-1", "x-request-id: readme-2"),
        ("held-out accuracy 1.000 on 30 rows", "held-out accuracy 1.000 on 31 rows"),
        ("1", "1.0"),
        ("", IRIS),
    ],
)
def test_what_readers_rely_on_is_not(actual: str, expected: str) -> None:
    assert not same(actual, expected)
