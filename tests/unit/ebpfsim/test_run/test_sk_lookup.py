"""Test runs of programs that look sockets up, on both kernels: expected values are Linux 6.18's."""

import struct

import pytest

from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

PASS = "r0 = 1; exit"
SYN = struct.Struct("<QII4s16sHxx4s16sI4x")


def lookup(family=2, protocol=17, remote="01020304", local="05060708", port=53, rest=b"") -> bytes:
    addresses = bytes.fromhex(remote), bytes(16), 0x3412, bytes.fromhex(local), bytes(16), port
    data = SYN.pack(0, family, protocol, *addresses)
    return data[: 72 - len(rest)].ljust(72 - len(rest), b"\0") + rest


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        (PASS, {"ctx_in": lookup()}, 1),
        ("r0 = 0; exit", {"ctx_in": lookup()}, 0),
        ("r0 = *(u32 *)(r1 + 60); r0 &= 1; exit", {"ctx_in": lookup(port=53)}, 1),
        ("r0 = *(u32 *)(r1 + 8); r0 &= 1; exit", {"ctx_in": lookup()}, 0),
        (PASS, {"ctx_in": lookup(family=10)}, 1),
        (PASS, {"ctx_in": lookup(family=3)}, "EAFNOSUPPORT"),
        (PASS, {"ctx_in": lookup(port=65536)}, "ERANGE"),
        (PASS, {"ctx_in": lookup(rest=b"\1\0\0\0")}, "EINVAL"),
        (PASS, {}, "EINVAL"),
        (PASS, {"ctx_in": lookup(), "data": b"x"}, "EINVAL"),
    ],
)
def test_socket_lookup(outcome, text, settings, expected) -> None:
    found = outcome(P.SK_LOOKUP, text, A.SK_LOOKUP, **settings)
    assert (found if isinstance(found, str) else found[0]) == expected
