"""A filter in the hands of its user: names, counters, replacement without a gap."""

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType


def test_counters_go_on_after_an_update() -> None:
    host = Simulation().host("h")
    load = lambda code: host.bpf.prog_load(ProgType.SCHED_CLS, encode(assemble(f"r0 = {code}; exit"))).fd  # noqa: E731
    sock = host.udp_socket("127.0.0.1", 9)
    with host.attach_tc(load(2), "lo", label="f") as each:
        sock.sendto(b"x", "127.0.0.1", 9)
        host.sim.run()
        each.update(load(0))
        sock.sendto(b"x", "127.0.0.1", 9)
        host.sim.run()
        assert (each.runs, each.verdicts, len(sock.received)) == (2, {"TC_ACT_SHOT": 1, "TC_ACT_OK": 1}, 1)
        assert (each.label, each.ns_per_run > 0, each.ns_per_packet > 0) == ("f", True, True)
        assert repr(each) == "<AttachedFilter lo ingress pref 49152 handle 0x1>"
    assert host.tc_filter_show("lo", "ingress") == []
