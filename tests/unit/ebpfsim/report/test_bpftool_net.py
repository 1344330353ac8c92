"""Rows of ``bpftool net show`` (shapes: bpftool 7.1 on Linux 6.12; tcx: tools/bpf/bpftool/net.c, v6.18)."""

from ebpfsim import Simulation
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.report.bpftool_net import net_list, net_text
from ebpfsim.uapi.bpf import ProgType


def test_rows_and_words() -> None:
    host = Simulation().host("h")
    host.nic("eth0")

    def load(kind: ProgType, name: str) -> int:
        return host.bpf.prog_load(kind, encode(assemble("r0 = 0; exit")), name=name).fd

    host.attach_xdp(load(ProgType.XDP, "x"), "eth0", mode="generic")
    link = host.attach_tcx(load(ProgType.SCHED_CLS, "t"), "eth0", "egress")
    host.attach_tc(load(ProgType.SCHED_CLS, "c"), "eth0")
    host.attach_netns(load(ProgType.FLOW_DISSECTOR, "f"))
    dev = {"devname": "eth0", "ifindex": 2}
    assert net_list(host.kernel) == [
        {
            "xdp": [dev | {"mode": "generic", "id": 1}],
            "tc": [
                dev
                | {
                    "kind": "tcx/egress",
                    "name": "t",
                    "prog_id": 2,
                    "prog_flags": [],
                    "link_id": link.id,
                    "link_flags": [],
                },
                dev | {"kind": "clsact/ingress", "name": "c", "id": 3},
            ],
            "flow_dissector": [{"id": 4}],
        }
    ]
    assert list(net_text(net_list(host.kernel)[0])) == [
        *("xdp:", "eth0(2) generic id 1", ""),
        *("tc:", "eth0(2) tcx/egress t prog_id 2 link_id 2", "eth0(2) clsact/ingress c id 3", ""),
        *("flow_dissector:", "id 4", ""),
    ]
