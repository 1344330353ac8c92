"""Excerpts with carets, and values in words."""

import pytest

from ebpfsim.scenario.source import Mark, Source, listed, shown


def test_error_shows_the_line_and_a_caret() -> None:
    error = Source("x.yaml", "a: 1\nlinks: [b, cc]\n").error(Mark(1, 11, 2), "unknown host 'cc'", "there is 'b'")
    assert str(error) == (
        "x.yaml:2:12: error: unknown host 'cc'\n    links: [b, cc]\n               ^^\ntry: there is 'b'"
    )


def test_long_lines_are_cut_around_the_caret() -> None:
    error = Source("x.yaml", "a" * 300 + "B" + "c" * 300).error(Mark(0, 300), "bad")
    line, caret = error.source.splitlines()
    assert len(line) < 110
    assert line[caret.index("^")] == "B"


def test_tabs_keep_the_caret_in_place() -> None:
    error = Source("x.yaml", "\ta\tb").error(Mark(0, 3), "bad")
    assert error.source == "    \ta\tb\n    \t \t^"


def test_line_past_the_end_shows_nothing() -> None:
    assert Source("x.yaml", "a").error(Mark(5, 0), "bad").source == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "nothing"),
        (True, "true"),
        (5, "5"),
        ("x", "'x'"),
        ("x" * 100, f"'{'x' * 57}...'"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "a mapping"),
        ("a\x1bb", "'a\ufffdb'"),
    ],
)
def test_values_in_words(value: object, words: str) -> None:
    assert shown(value) == words


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"]) == "'a', 'b'"
    assert listed([]) == "none"
    assert listed([str(number) for number in range(20)]).endswith("'15', and 4 more")
