"""The scalar types of a scenario: durations, rates, percentages, addresses, names. Each refuses with what to write.

A value that carries a unit is text (``20us``, ``10Gbit``, ``0.1%``); only 0 needs none.
"""

import re
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from ebpfsim.clock import parse_duration, parse_rate
from ebpfsim.errors import InputError
from ebpfsim.scenario.source import shown

__all__ = [
    "Address",
    "Count",
    "DeviceName",
    "Duration",
    "FilePath",
    "IfName",
    "Mac",
    "Name",
    "Percentage",
    "PortAddress",
    "PortTarget",
    "Rate",
    "ReturnValue",
    "Subnet",
    "Wrong",
    "duration_ns",
    "mac_text",
]

# what struct ktime holds: nanoseconds in s64
MAX_NS = (1 << 63) - 1
MAX_BPS = 10**14
# IFNAMSIZ is 16 with the NUL (include/uapi/linux/if.h)
IFNAME_CHARS = 15
NAME_CHARS = 63
NAME_MAX, PATH_MAX = 255, 4096  # include/uapi/linux/limits.h

_MAC = re.compile(r"[0-9a-fA-F]{2}(?P<sep>[:-])(?:[0-9a-fA-F]{2}(?P=sep)){4}[0-9a-fA-F]{2}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%")
_SUB_NANOSECOND = re.compile(r"\s*\d+\.\d*[1-9]0*\s*ns\s*")


def Wrong(problem: str, hint: str = "", key: str = "") -> PydanticCustomError:  # noqa: N802
    """Return an error for a validator to raise; ``key`` moves it from the value to that key of a mapping."""
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "hint": hint, "key": key})


def _duration(value: object) -> int:
    hint = "a number with ns, us, ms or s, as in '20us'"
    if value == 0 and not isinstance(value, bool):
        return 0
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise Wrong(f"duration {value} is negative")
        raise Wrong(f"duration {value} has no unit", f"'{value}ns', '{value}us' or '{value}ms'")
    if not isinstance(value, str):
        raise Wrong(f"expected a duration, have {shown(value)}", hint)
    if value.strip().startswith("-"):
        raise Wrong(f"duration '{value}' is negative")
    if _SUB_NANOSECOND.fullmatch(value):
        raise Wrong(f"duration '{value}' is finer than a nanosecond")
    try:
        if not value.isascii():
            raise ValueError
        duration_ns = parse_duration(value) if len(value) <= NAME_CHARS else MAX_NS + 1
    except (InputError, ValueError):
        raise Wrong(f"duration {shown(value)} is not understood", hint) from None
    if duration_ns > MAX_NS:
        raise Wrong(f"duration {shown(value)} is longer than {MAX_NS} ns (292 years)")
    return duration_ns


duration_ns = _duration


def _rate(value: object) -> int:
    hint = "a number with kbit, Mbit or Gbit, as in '10Gbit'"
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Wrong(f"rate {value} has no unit", hint)
    if not isinstance(value, str):
        raise Wrong(f"expected a rate, have {shown(value)}", hint)
    try:
        if not value.isascii():
            raise ValueError
        rate_bps = parse_rate(value) if len(value) <= NAME_CHARS else MAX_BPS + 1
    except (InputError, ValueError):
        raise Wrong(f"rate {shown(value)} is not understood", hint) from None
    if rate_bps > MAX_BPS:
        raise Wrong(f"rate {shown(value)} is above 100 Tbit/s")
    return rate_bps


def _percentage(value: object) -> float:
    hint = "a number from 0 to 100 with %, as in '0.1%'"
    if value == 0 and not isinstance(value, bool):
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise Wrong(f"percentage {value} has no '%'", hint)
    match = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= NAME_CHARS else None
    if match is None:
        raise Wrong(f"expected a percentage, have {shown(value)}", hint)
    percent = float(match[1])
    if percent > 100:
        raise Wrong(f"percentage '{value}' is above 100%")
    return percent / 100


def _count(value: object) -> tuple[int, int]:
    hint = "a number, or [lowest, highest]"
    match value:
        case int() if not isinstance(value, bool):
            low = high = value
        case [int() as low, int() as high] if not isinstance(low, bool) and not isinstance(high, bool):
            pass
        case _:
            raise Wrong(f"expected a count, have {shown(value)}", hint)
    if low < 0:
        raise Wrong(f"count {low} is negative")
    if low > high:
        raise Wrong(f"range [{low}, {high}] is empty: the lowest comes first", f"[{high}, {low}]")
    return low, high


def _result(value: object) -> tuple[int, int]:
    match value:
        case int() if not isinstance(value, bool):
            low = high = value
        case [int() as low, int() as high] if not isinstance(low, bool) and not isinstance(high, bool):
            pass
        case _:
            raise Wrong(f"expected a result, have {shown(value)}", "a number, or [lowest, highest]")
    if low > high:
        raise Wrong(f"range [{low}, {high}] is empty: the lowest comes first", f"[{high}, {low}]")
    return low, high


def _file_path(value: object) -> str:
    hint = "a path from the root, as in /etc/app.conf; one that ends in '/' is a directory"
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise Wrong(f"expected a path, have {shown(value)}", hint)
    names = value.removesuffix("/").split("/")[1:]
    if not names or not all(names) or any(name in (".", "..") for name in names):
        raise Wrong(f"path {shown(value)} is not a plain one", hint)
    if any(len(name.encode()) > NAME_MAX for name in names) or len(value.encode()) >= PATH_MAX:
        raise Wrong(f"path {shown(value)} is too long")
    return value


def _address(value: object) -> IPv4Interface | IPv6Interface:
    hint = "an address with its prefix length, as in 10.0.0.1/24 or fd00::1/64"
    if not isinstance(value, str):
        raise Wrong(f"expected an address, have {shown(value)}", hint)
    try:
        interface = ip_interface(value)
    except ValueError:
        raise Wrong(f"address {shown(value)} is not understood", hint) from None
    if "/" not in value:
        raise Wrong(f"address '{value}' has no prefix length", f"'{value}/{24 if interface.version == 4 else 64}'")
    address = interface.ip
    if address.is_multicast or address.is_unspecified:
        raise Wrong(f"address '{value}' cannot belong to an interface", hint)
    return interface


def _subnet(value: object) -> str:
    if value == "default":
        return "0.0.0.0/0"
    try:
        return str(ip_network(value))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        hint = "a network as in 10.1.0.0/16, or 'default'"
        raise Wrong(f"network {shown(value)} is not understood", hint) from None


def mac_text(value: object) -> str:
    """Return a MAC address in lower case with colons; Wrong when it is none."""
    if isinstance(value, str) and _MAC.fullmatch(value):
        return value.lower().replace("-", ":")
    raise Wrong(f"MAC address {shown(value)} is not understood", "six bytes as in 02:00:00:00:00:01")


def _mac(value: object) -> str:
    mac = mac_text(value)
    if int(mac[:2], 16) & 1:
        raise Wrong(f"MAC address '{mac}' is a group address", "an even first byte, as in 02:00:00:00:00:01")
    if mac == "00:00:00:00:00:00":
        raise Wrong("MAC address is all zero", "six bytes as in 02:00:00:00:00:01")
    return mac


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong(f"expected a name, have {shown(value)}", f"quote it: '{value}'" if isinstance(value, int) else "")
    if len(value) > NAME_CHARS:
        raise Wrong(f"name {shown(value)} has {len(value)} characters, at most {NAME_CHARS} are allowed")
    if not _NAME.fullmatch(value):
        raise Wrong(f"name {shown(value)} is not allowed", "letters, digits, '_', '.' and '-'")
    return value


def _ifname(value: object) -> str:
    # dev_valid_name() in net/core/dev.c
    if not isinstance(value, str):
        raise Wrong(f"expected an interface name, have {shown(value)}", f"quote it: '{value}'")
    if len(value) > IFNAME_CHARS:
        raise Wrong(f"interface name {shown(value)} has {len(value)} characters, at most {IFNAME_CHARS} are allowed")
    if not value or value in (".", "..") or any(char in "/:" or char.isspace() for char in value):
        raise Wrong(f"interface name {shown(value)} is not allowed", "no '/', ':' or blanks, as in eth0")
    return value


def _device_name(value: object) -> str:
    if isinstance(value, str) and "/" in value:
        netns, _, device = value.rpartition("/")
        return f"{_name(netns)}/{_ifname(device)}"
    return _ifname(value)


def _port_address(value: object) -> tuple[str, int]:
    hint = "ADDRESS:PORT, as in 0.0.0.0:53"
    if isinstance(value, int) and not isinstance(value, bool):
        host, port_text = "0.0.0.0", str(value)
    elif isinstance(value, str) and ":" in value:
        host, _, port_text = value.rpartition(":")
    else:
        raise Wrong(f"expected an address and a port, have {shown(value)}", hint)
    try:
        address = str(ip_address(host.removeprefix("[").removesuffix("]")))
        port = int(port_text) if port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 else -1
    except ValueError:
        raise Wrong(f"socket address {shown(value)} is not understood", hint) from None
    if not 1 <= port <= 65535:
        raise Wrong(f"port '{port_text}' is not a number from 1 to 65535", hint)
    return address, port


def _port_target(value: object) -> tuple[str, int]:
    # as a socket's address, or the name of a host
    if isinstance(value, str) and ":" in value:
        name, _, port = value.rpartition(":")
        if _NAME.fullmatch(name) and not name[0].isdigit() and port.isascii() and port.isdigit() and len(port) <= 5:
            if not 1 <= int(port) <= 65535:
                raise Wrong(f"port '{port}' is not a number from 1 to 65535", "HOST:PORT, as in server:80")
            return name, int(port)
    return _port_address(value)


def _text_schema(pattern_words: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": ["string", "integer"], "description": pattern_words, "examples": list(examples)})


_COUNT_SCHEMA: dict[str, list[dict[str, object]]] = {
    "oneOf": [
        {"type": "integer", "minimum": 0},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2},
    ]
}

Duration = Annotated[int, BeforeValidator(_duration), _text_schema("a time with ns, us, ms, s or min", "20us", "1.5ms")]
Rate = Annotated[int, BeforeValidator(_rate), _text_schema("bits per second with kbit, Mbit or Gbit", "10Gbit")]
Percentage = Annotated[float, BeforeValidator(_percentage), _text_schema("a percentage", "0.1%")]
Address = Annotated[
    IPv4Interface | IPv6Interface, BeforeValidator(_address), _text_schema("address and prefix length", "10.0.0.1/24")
]
Subnet = Annotated[str, BeforeValidator(_subnet), _text_schema("a network or 'default'", "default", "10.1.0.0/16")]
Mac = Annotated[str, BeforeValidator(_mac), _text_schema("MAC address", "02:00:00:00:00:01")]
PortAddress = Annotated[tuple[str, int], BeforeValidator(_port_address), _text_schema("ADDRESS:PORT", "0.0.0.0:53")]
PortTarget = Annotated[
    tuple[str, int], BeforeValidator(_port_target), _text_schema("ADDRESS:PORT or HOST:PORT", "10.0.0.2:80")
]
Name = Annotated[str, BeforeValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})]
IfName = Annotated[str, BeforeValidator(_ifname), WithJsonSchema({"type": "string", "maxLength": IFNAME_CHARS})]
DeviceName = Annotated[
    str, BeforeValidator(_device_name), WithJsonSchema({"type": "string", "examples": ["eth0", "blue/veth1"]})
]
Count = Annotated[tuple[int, int], BeforeValidator(_count), WithJsonSchema(_COUNT_SCHEMA)]
ReturnValue = Annotated[
    tuple[int, int],
    BeforeValidator(_result),
    WithJsonSchema(
        {"oneOf": [{"type": "integer"}, {**_COUNT_SCHEMA["oneOf"][1], "items": {"type": "integer"}}]},
    ),
]
FilePath = Annotated[str, BeforeValidator(_file_path), WithJsonSchema({"type": "string", "pattern": "^/"})]
