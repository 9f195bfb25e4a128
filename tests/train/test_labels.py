from __future__ import annotations

from pathlib import Path

import pytest

from train.errors import TrainingError
from train.labels import check_length, numbered, read_labels


def test_numbered_names() -> None:
    assert numbered(1000)[0] == "class_0000"
    assert numbered(1000)[-1] == "class_0999"
    assert len(set(numbered(1000))) == 1000


def test_a_list_of_names_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text('["cat", "Käfer"]', encoding="utf-8")

    assert read_labels(file) == ["cat", "Käfer"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"[1, 2]", "non-empty strings"),
        (b'["a", ""]', "non-empty strings"),
        (b'["a", "  "]', "non-empty strings"),
        (b'{"0": "a"}', "non-empty strings"),
        (b'["a", "b", "a"]', "more than once: a"),
        (b"cat, dog", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (None, "No such file"),
    ],
)
def test_anything_else_is_refused_with_the_file_name(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    file = tmp_path / "labels.json"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(TrainingError, match=complaint) as caught:
        read_labels(file)

    assert "labels.json" in str(caught.value)


def test_the_length_is_that_of_the_model() -> None:
    check_length(["a", "b"], classes=2)
    with pytest.raises(TrainingError, match="2 names for a model with 3 classes"):
        check_length(["a", "b"], classes=3)
