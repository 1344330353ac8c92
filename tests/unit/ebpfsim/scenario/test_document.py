"""YAML 1.2 core values and their places. Values: yaml.org/spec/1.2.2, chapter 10.3.2 and example 10.9."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import ScenarioError
from ebpfsim.scenario.document import MAX_BYTES, Node, compose, decode, plain
from ebpfsim.scenario.source import Source


def load(text: str) -> object:
    return plain(compose(Source("x.yaml", text)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("0", 0),
        ("-19", -19),
        ("+12", 12),
        ("0o7", 7),
        ("0x3A", 58),
        ("010", 10),
        ("0.", 0.0),
        ("-0.0", 0.0),
        (".5", 0.5),
        ("+12e03", 12000.0),
        ("-2E+05", -200000.0),
        # text in YAML 1.2, other things in YAML 1.1
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("22:22", "22:22"),
        ("1:30:00", "1:30:00"),
        ("02:00:00:00:00:01", "02:00:00:00:00:01"),
        ("1_000", "1_000"),
        ("0b1010", "0b1010"),
        ("2001-12-14", "2001-12-14"),
        ("=", "="),
        ("<<", "<<"),
        ("fd00::1/64", "fd00::1/64"),
        ("10.0.0.1/24", "10.0.0.1/24"),
        ('"12"', "12"),
        ("'true'", "true"),
        ("''", ""),
    ],
)
def test_scalars_follow_the_core_schema(text: str, value: object) -> None:
    assert load(f"a: {text}") == {"a": value}
    assert type(load(f"a: {text}")["a"]) is type(value)  # type: ignore[index]


def test_keys_are_text_or_whole_numbers() -> None:
    assert load("{1: a, 0x10: b, true: c, 1.5: d, ~: e, '2': f, 10.0.0.1: g, on: h}") == {
        1: "a", 16: "b", "true": "c", "1.5": "d", "~": "e", "2": "f", "10.0.0.1": "g", "on": "h",
    }  # fmt: skip


def test_numbers_written_differently_are_the_same_key() -> None:
    with pytest.raises(ScenarioError, match=r"x.yaml:1:9: error: key '16' is given twice; first in line 1"):
        load("{16: a, 0x10: b}")


def test_places_of_keys_and_values() -> None:
    root = compose(Source("x.yaml", "a:\n  - {b: 1, c: [x, 'long text']}\n"))
    assert root.find(("a", 0, "c", 1)).where == "x.yaml:2:19"
    assert root.find(("a", 0, "c"), key=True).where == "x.yaml:2:12"
    assert root.find(("a",), key=True).where == "x.yaml:1:1"
    # as deep as there is something
    assert root.find(("a", 0, "b", "nothing")).where == "x.yaml:2:9"
    assert root.find(("a", 7, "nothing")).where == "x.yaml:2:3"


def test_columns_count_characters() -> None:
    root = compose(Source("x.yaml", "{ä: ö, 日本: x}"))
    assert root.find(("日本",)).where == "x.yaml:1:12"


def test_aliases_stand_for_what_they_name() -> None:
    root = compose(Source("x.yaml", "a: &x {b: [1]}\nc: *x\n"))
    assert plain(root) == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert root.find(("c", "b", 0)).where == "x.yaml:1:12"


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 20)]
    with pytest.raises(ScenarioError, match="more than 50000 values once aliases are expanded"):
        load("\n".join(lines))


def test_alias_within_its_own_anchor_is_unknown() -> None:
    with pytest.raises(ScenarioError, match=r"alias '\*a' has no anchor '&a' before it"):
        load("a: &a [*a]")


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 50_000, "{a: " * 60_000, "? " * 50_000])
def test_deep_nesting_is_refused_at_once(text: str) -> None:
    with pytest.raises(ScenarioError, match="nested deeper than 40 levels"):
        load(text)


def test_text_that_is_too_large() -> None:
    with pytest.raises(ScenarioError, match=r"x.yaml: error: scenario is larger than 256 KiB"):
        decode(b"a" * (MAX_BYTES + 1), "x.yaml")


@pytest.mark.parametrize(
    ("data", "where", "problem"),
    [
        (b"a: \xff\n", "x.yaml:1:4", "byte 0xff is not UTF-8 text"),
        (b"a: 1\nb: \xc3\xa4\xc3\n", "x.yaml:2:5", "byte 0xc3 is not UTF-8 text"),
        ("a: 1".encode("utf-16"), "x.yaml:1:1", "text is UTF-16, expected UTF-8"),
        (b"a: 1\nb: \x00\n", "x.yaml:2:4", "control character U+0000"),
        (b"a: \x1b[31m\n", "x.yaml:1:4", "control character U+001B"),
    ],
)
def test_bytes_that_are_no_text(data: bytes, where: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        decode(data, "x.yaml")
    assert (caught.value.where, caught.value.problem) == (where, problem)


def test_byte_order_mark_is_not_text() -> None:
    assert plain(compose(decode(b"\xef\xbb\xbfa: 1\n", "x.yaml"))) == {"a": 1}


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@`#? \n\t01.~\\", max_size=60))
def test_any_text_gives_a_tree_or_one_placed_error(text: str) -> None:
    outcome: Node | ScenarioError
    try:
        outcome = compose(Source("x.yaml", text))
    except ScenarioError as error:
        outcome = error
    assert isinstance(outcome, Node) or outcome.where.startswith("x.yaml:")
