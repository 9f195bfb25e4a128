"""Comparing an output with the one in README.md.

Everything has to be equal but for what differs from run to run or from machine to machine:

- request ids, model versions, SHA-256 sums, times and durations, versions of libraries, sizes of stored models;
- ids of jobs, and the figures of `/jobs/stats`;
- the largest difference of a verification, which is rounding;
- classes and probabilities of an InceptionV3 with random weights: the network amplifies rounding;
- numbers with a fraction, which may differ by 0.01 %;
- runs of spaces.
"""

from __future__ import annotations

import math
import re

_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\b[0-9a-f]{32}\b", "<request id>"),
        (r"\b[0-9a-f]{64}\b", "<sha256>"),
        (r'("job_id":"|/jobs/)[\w-]{22}(?![\w-])', r"\1<job id>"),
        (r"^[\w-]{22}(?= (?:queued|running|succeeded|failed|expired|cancelled)\b)", "<job id>"),
        (r'"(queued|running|succeeded|failed|expired|cancelled)":\d+', r'"\1":<jobs>'),
        (r'"(oldest_queued_seconds|queued_bytes|finished_per_second)":[\d.e-]+', r'"\1":<figure>'),
        (r"\b(iris|inception_v3|wine):[a-z0-9]{16}\b", r"\1:<version>"),
        (r'"version":"[a-z0-9]{16}"', '"version":"<version>"'),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:\+00:00|Z)?", "<time>"),
        (r"(?m)^date: .*$", "date: <time>"),
        (r"\bms=[\d.]+", "ms=<duration>"),
        (r'"milliseconds":[\d.]+', '"milliseconds":<duration>'),
        (r"… [\d.]+ s$", "… <duration> s"),
        (r'"(version|model_version)":"\d{10}"', r'"\1":"<number>"'),
        (r'"versions":\["\d{10}"\]', '"versions":["<number>"]'),
        (r'":"\d+\.\d+(?:\.\w+)*"', '":"<library version>"'),
        (r"\b[\d.]+ [KM]iB\b", "<size>"),
        (r"(largest difference |\"max_abs_difference\":)[\d.e-]+", r"\1<difference>"),
        (r'"(label|prediction)":"class_\d{4}"', r'"\1":"<class>"'),
        (r'"class_id":\d+,"probability":[\d.e-]+', '"class_id":<class>,"probability":<probability>'),
        (r'"predictions":\["class_\d{4}"\]', '"predictions":["<class>"]'),
        (r" +", " "),
    )
]
_NUMBER = re.compile(r"(-?\d+\.?\d*(?:[eE][-+]?\d+)?)")
_RELATIVE_TOLERANCE = 1e-4
_ABSOLUTE_TOLERANCE = 1e-7


def normalised(text: str) -> str:
    """`text` with a placeholder for whatever differs from run to run."""
    lines = []
    for line in text.replace("\r\n", "\n").strip("\n").split("\n"):
        for pattern, replacement in _RULES:
            line = pattern.sub(replacement, line)  # noqa: PLW2901 - each rule works on the last one's result
        lines.append(line.strip())
    return "\n".join(lines)


def same(actual: str, expected: str) -> bool:
    """Whether both are equal by the rules above."""
    found, wanted = (_NUMBER.split(normalised(text)) for text in (actual, expected))
    if len(found) != len(wanted):
        return False
    # Texts and numbers take turns.
    texts = all(a == b for a, b in zip(found[::2], wanted[::2], strict=True))
    return texts and all(_equal(a, b) for a, b in zip(found[1::2], wanted[1::2], strict=True))


def _equal(a: str, b: str) -> bool:
    if a == b:
        return True
    fractions = all(any(sign in number for sign in ".eE") for number in (a, b))
    return fractions and math.isclose(float(a), float(b), rel_tol=_RELATIVE_TOLERANCE, abs_tol=_ABSOLUTE_TOLERANCE)
