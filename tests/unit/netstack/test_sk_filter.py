"""Socket filters: what they see, what they keep (net/core/filter.c, v6.18)."""

from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


def load(host: Any, kind: ProgType, code: str) -> Any:
    expected = 36 if kind == ProgType.SK_LOOKUP else 0
    return host.prog(host.bpf.prog_load(kind, encode(assemble(code)), expected_attach_type=expected).fd)


@pytest.mark.parametrize(("size", "kept"), [(0, None), (1, b""), (8, b""), (10, b"ab"), (100, b"abcdef")])
def test_socket_filter(size: int, kept: bytes | None) -> None:
    """sk_filter_trim_cap(): 0 drops, the header always stays, the rest is cut."""
    host = Simulation().host("h")
    server, client = host.udp_socket("127.0.0.1", 9), host.udp_socket("127.0.0.1", 10)
    server.attach_bpf(load(host, ProgType.SOCKET_FILTER, f"r0 = {size}; exit"))
    client.sendto(b"abcdef", "127.0.0.1", 9)
    host.sim.run()
    assert [each.data for each in server.received] == ([] if kept is None else [kept])
    assert host.net.drops["SOCKET_FILTER"] == (kept is None)
    server.detach_filter()
    with pytest.raises(KernelError, match="ENOENT"):
        server.detach_filter()
    with pytest.raises(KernelError, match="EINVAL"):
        server.attach_bpf(load(host, ProgType.SK_LOOKUP, "r0 = 1; exit"))


def test_socket_filter_sees_the_transport_header() -> None:
    """The first two bytes are the source port: 10."""
    host = Simulation().host("h")
    server, client = host.udp_socket("127.0.0.1", 9), host.udp_socket("127.0.0.1", 10)
    code = """
        r6 = r1
        r0 = *(u16 *)skb[0]
        if r0 == 10 goto yes
        r0 = 0; exit
    yes:
        r0 = *(u32 *)(r6 + 0); exit
    """
    server.attach_bpf(load(host, ProgType.SOCKET_FILTER, code))
    client.sendto(b"abc", "127.0.0.1", 9)
    host.sim.run()
    assert [each.data for each in server.received] == [b"abc"]
