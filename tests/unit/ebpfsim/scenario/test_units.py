"""Units and names: what they mean, and that nothing else is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ebpfsim.scenario import units


def check(kind: object, value: object) -> object:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("5ns", 5),
        ("20us", 20_000),
        ("1.5ms", 1_500_000),
        ("0.000000001s", 1),
        ("2 min", 120 * 10**9),
        (0, 0),
        ("0ns", 0),
    ],
)
def test_durations(text: object, nanoseconds: int) -> None:
    assert check(units.Duration, text) == nanoseconds


@pytest.mark.parametrize("text", ["5", "us", "5 us us", "-5us", "1e3us", "5US", "٣us", "", None, True, [], 5, 1.5])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValidationError):
        check(units.Duration, text)


@given(st.integers(0, 10**12))
def test_duration_of_any_number_of_nanoseconds(number: int) -> None:
    assert check(units.Duration, f"{number}ns") == number
    assert check(units.Duration, f"{number / 1000:.3f}us" if number < 10**12 else "0ns") in (number, 0)


@pytest.mark.parametrize(
    ("text", "bps"), [("10Gbit", 10**10), ("1.5Mbit", 1_500_000), ("8kbit", 8_000), ("100Tbit", 10**14), ("9bit", 9)]
)
def test_rates(text: str, bps: int) -> None:
    assert check(units.Rate, text) == bps


@pytest.mark.parametrize("text", ["10", "10GB", "10 Gb/s", "0bit", "-1Gbit", "101Tbit", 5, None, True])
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValidationError):
        check(units.Rate, text)


@pytest.mark.parametrize(("text", "share"), [("0.1%", 0.001), ("100%", 1.0), ("0%", 0.0), (0, 0.0), (" 5 % ", 0.05)])
def test_percentages(text: object, share: float) -> None:
    assert check(units.Percentage, text) == share


@pytest.mark.parametrize("text", ["0.1", "-1%", "100.1%", "%", 0.1, 1, None, True, "1e2%"])
def test_what_is_no_percentage(text: object) -> None:
    with pytest.raises(ValidationError):
        check(units.Percentage, text)


@pytest.mark.parametrize(("value", "span"), [(5, (5, 5)), ([1, 2], (1, 2)), ([3, 3], (3, 3)), (0, (0, 0))])
def test_counts(value: object, span: tuple[int, int]) -> None:
    assert check(units.Count, value) == span


@pytest.mark.parametrize("value", [-1, [2, 1], [1], [1, 2, 3], "5", 1.5, True, [True, True], None])
def test_what_is_no_count(value: object) -> None:
    with pytest.raises(ValidationError):
        check(units.Count, value)


@pytest.mark.parametrize(("value", "span"), [(-13, (-13, -13)), (0, (0, 0)), ([-2, 1], (-2, 1)), ([3, 3], (3, 3))])
def test_results_of_system_calls(value: object, span: tuple[int, int]) -> None:
    assert check(units.ReturnValue, value) == span


@pytest.mark.parametrize("value", [[2, 1], [1], [1, 2, 3], "5", 1.5, True, [True, True], None])
def test_what_is_no_result(value: object) -> None:
    with pytest.raises(ValidationError):
        check(units.ReturnValue, value)


@pytest.mark.parametrize("text", ["/etc/passwd", "/home/bob/", "/a b/ü", "/" + "x" * 255])
def test_paths_of_files(text: str) -> None:
    assert check(units.FilePath, text) == text


@pytest.mark.parametrize(
    "text", ["etc/passwd", "", "/", "//", "/a//b", "/a/../b", "/./a", "/\0", "/" + "x" * 256, 5, None, "/a/" * 1366]
)
def test_what_is_no_path(text: object) -> None:
    with pytest.raises(ValidationError):
        check(units.FilePath, text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0.0.0.0:53", ("0.0.0.0", 53)),
        ("[::1]:53", ("::1", 53)),
        (53, ("0.0.0.0", 53)),
        ("10.0.0.2:9", ("10.0.0.2", 9)),
    ],
)
def test_port_addresses(text: object, parts: tuple[str, int]) -> None:
    assert check(units.PortAddress, text) == parts


@pytest.mark.parametrize("text", ["0.0.0.0", "0.0.0.0:0", "0.0.0.0:65536", "x:53", ":53", "0.0.0.0:+5", 70000, True])
def test_what_is_no_port_address(text: object) -> None:
    with pytest.raises(ValidationError):
        check(units.PortAddress, text)


def test_names_of_interfaces_are_those_that_linux_takes() -> None:
    # dev_valid_name() in net/core/dev.c: no '/', ':' or blanks, neither '.' nor '..', fewer than IFNAMSIZ bytes
    assert check(units.IfName, "eth0.100@x") == "eth0.100@x"
    for name in ("", ".", "..", "a/b", "a:b", "a b", "a\tb", "x" * 16):
        with pytest.raises(ValidationError):
            check(units.IfName, name)


def test_mac_addresses() -> None:
    assert check(units.Mac, "02-AB-00-00-00-01") == "02:ab:00:00:00:01"
    for text in (
        "02:00:00:00:00",
        "02:00:00:00:00:0g",
        "02:00-00:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
        1,
    ):
        with pytest.raises(ValidationError):
            check(units.Mac, text)
