"""A program of a group of SO_REUSEPORT in a user's hands: counters, replacement, the end."""

import pytest

from ebpfsim import Simulation
from ebpfsim.attached_reuseport import AttachedReuseport, AttachedSocketFilter
from ebpfsim.errors import InputError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


def test_life_of_an_attachment() -> None:
    host = Simulation().host("h")
    server, out = host.udp_socket("127.0.0.1", 9, reuseport=True), host.udp_socket("127.0.0.1", 10)
    yes, no = (
        host.prog(host.bpf.prog_load(ProgType.SK_REUSEPORT, encode(assemble(f"r0 = {code}; exit"))).fd)
        for code in (1, 0)
    )

    def send() -> int:
        before = len(server.received)
        out.sendto(b"x", "127.0.0.1", 9)
        host.sim.run()
        return len(server.received) - before

    with AttachedReuseport(host, server, no, "group") as attached:
        assert (send(), attached.label, attached.runs, attached.verdicts) == (0, "group", 1, {"SK_DROP": 1})
        assert repr(attached) == "<AttachedReuseport group>"
        attached.update(yes)
        assert (send(), attached.runs, attached.verdicts) == (1, 1, {"SK_PASS": 1})
        attached.label = "other"
        send()
        assert host.sim.recorder.runs[-1].link == "other"
    assert send() == 1
    assert attached.runs == 2
    with pytest.raises(InputError, match="any more"):
        attached.detach()


def test_socket_filter_in_hand() -> None:
    host = Simulation().host("h")
    server, out = host.udp_socket("127.0.0.1", 9), host.udp_socket("127.0.0.1", 10)
    insns = [encode(assemble(f"r0 = {size}; exit")) for size in (0, 9)]
    none, one = (host.prog(host.bpf.prog_load(ProgType.SOCKET_FILTER, each).fd) for each in insns)
    with AttachedSocketFilter(host, server, none, "filter") as attached:
        out.sendto(b"abc", "127.0.0.1", 9)
        host.sim.run()
        assert (server.received, attached.runs) == ([], 1)
        attached.update(one)
        out.sendto(b"abc", "127.0.0.1", 9)
        host.sim.run()
        # the header of eight bytes, and one more
        assert [datagram.data for datagram in server.received] == [b"a"]
    assert server.filter is None
    attached.close()
