"""Map keys and values for people: numbers that C declares in network byte order are shown as addresses and ports.

Only types say what bytes mean: ``__be32`` is shown as an IPv4 address, ``__be16`` as a number in host order, six bytes
as a MAC address. A plain ``__u32`` stays a number.
"""

from ipaddress import IPv4Address
from typing import Any

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Array, Composite, Int, Modifier, Typedef

__all__ = ["readable", "words"]

MAX_DEPTH = 16
ETH_ALEN = 6


def readable(btf: Btf | None, type_id: int, value: Any) -> Any:
    """Return a value of a C type (as ``from_bytes`` gave it) with addresses as text."""
    if isinstance(value, list) and type_id and btf is not None and not isinstance(btf.resolved(type_id), Array):
        return [_readable(btf, type_id, part, 0) for part in value]  # one value a CPU
    return value if btf is None or not type_id else _readable(btf, type_id, value, 0)


def _readable(btf: Btf, type_id: int, value: Any, depth: int) -> Any:
    type_ = btf.type(type_id)
    while isinstance(type_, Modifier) and depth < MAX_DEPTH:
        if isinstance(type_, Typedef) and isinstance(value, int):
            if type_.name == "__be32":
                return str(IPv4Address((value & 0xFFFFFFFF).to_bytes(4, "little")))
            if type_.name == "__be16":
                return int.from_bytes((value & 0xFFFF).to_bytes(2, "little"), "big")
        type_ = btf.type(type_.type_id)
        depth += 1
    if depth >= MAX_DEPTH:
        return value
    match type_:
        case Composite() if isinstance(value, dict):
            members = {member.name: member.type_id for member in type_.members}
            return {
                name: _readable(btf, members[name], part, depth + 1) if name in members else part
                for name, part in value.items()
            }
        case Array() if isinstance(value, list | tuple):
            element = btf.resolved(type_.type_id)
            if len(value) == ETH_ALEN and isinstance(element, Int) and element.size == 1:
                return ":".join(f"{byte:02x}" for byte in value)
            return [_readable(btf, type_.type_id, part, depth + 1) for part in value]
    return value


def words(value: Any) -> str:
    """Return a value as one line of YAML would show it."""
    match value:
        case None:
            return "no entry"
        case bool():
            return str(value).lower()
        case dict():
            return "{" + ", ".join(f"{key}: {words(part)}" for key, part in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(words(part) for part in value) + "]"
        case bytes():
            return value.hex(" ")
    return str(value)
