from pathlib import Path

import pytest

from benchmarks.results import HEADER, ResultsError, Section, replace_section, write_section
from benchmarks.table import Table, figure, ratio


def section(name: str, value: str, failures: tuple[str, ...] = ()) -> Section:
    table = Table("Throughput", ("server", "req/s"), [["a|b", value]], notes=["a note"])
    return Section(name, f"Title of {name}", [table], notes=["about it"], failures=failures)


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path):
    path = tmp_path / "deep" / "RESULTS.md"
    for name, value in (("iris", "1"), ("inception_v3", "2"), ("batch", "3")):
        write_section(path, section(name, value), ["machine: x"])
    before = path.read_text()
    write_section(path, section("inception_v3", "4,000"), ["machine: y"])
    after = path.read_text()
    assert after.startswith(HEADER)
    assert after == before.replace("| a\\|b | 2 |", "| a\\|b | 4,000 |").replace(
        "## Title of inception_v3\n\n- machine: x", "## Title of inception_v3\n\n- machine: y"
    )
    assert [line for line in after.splitlines() if line.startswith("<!--")] == [
        f"<!-- {edge} {name} -->" for name in ("iris", "inception_v3", "batch") for edge in ("begin", "end")
    ]
    assert list(path.parent.iterdir()) == [path]


def test_text_between_sections_is_kept():
    text = "# Mine\n\n<!-- begin a -->\nold\n<!-- end a -->\n\nby hand\n"
    assert replace_section(text, "a", "new\n") == "# Mine\n\n<!-- begin a -->\nnew\n<!-- end a -->\n\nby hand\n"
    assert replace_section("", "a", "new") == "<!-- begin a -->\nnew\n<!-- end a -->\n"


def test_a_name_that_begins_like_another_is_another():
    text = replace_section("", "iris_batch", "kept")
    assert "kept" in replace_section(text, "iris", "new")


@pytest.mark.parametrize(
    "text",
    [
        "<!-- begin a -->\nold\n",
        "old\n<!-- end a -->\n",
        "<!-- end a -->\n<!-- begin a -->\n",
        "<!-- begin a -->\n<!-- end a -->\n<!-- begin a -->\n<!-- end a -->\n",
    ],
)
def test_broken_markers_are_an_error_and_nothing_is_written(tmp_path: Path, text: str):
    path = tmp_path / "RESULTS.md"
    path.write_text(text)
    with pytest.raises(ResultsError):
        write_section(path, section("a", "1"), [])
    assert path.read_text() == text


def test_a_section_says_what_failed_in_one_line_each():
    markdown = section("a", "1", failures=("x ended with 1; it wrote:\nTraceback", "y c8: 3 non-2xx")).markdown([])
    assert "- x ended with 1; it wrote:\n- y c8: 3 non-2xx" in markdown
    assert "Traceback" not in markdown
    assert "Failed" not in section("a", "1").markdown([])


def test_markdown_of_a_table():
    assert section("a", "1").tables[0].markdown() == (
        "### Throughput\n\n| server | req/s |\n|---|---:|\n| a\\|b | 1 |\n\n- a note"
    )


def test_figures():
    assert figure(12345.678) == "12,346"
    assert figure(0.126, 2) == "0.13"
    assert figure(None) == figure(float("nan"), 2) == "–"
    assert ratio(3, 2) == "1.50"
    assert ratio(None, 2) == ratio(3, None) == ratio(3, 0) == ratio(float("nan"), 2) == "–"
