"""``bpftool net show``: what is attached to the devices and the namespace of a simulated host, in bpftool's shapes.

Rows of xdp, clsact and flow dissectors are those that bpftool 7.1 printed; rows of tcx follow tools/bpf/bpftool/net.c,
v6.18. Filters are shown by their program's name, as libbpf attaches them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.net import XdpMode

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel
    from netstack.device import NetDevice

__all__ = ["net_list", "net_text"]

MODES = {XdpMode.NATIVE: "driver", XdpMode.GENERIC: "generic"}
DIRECTIONS = {"ingress": AttachType.TCX_INGRESS, "egress": AttachType.TCX_EGRESS}


def net_list(kernel: "Kernel") -> list[dict[str, Any]]:
    """Return what ``bpftool -j net show`` prints."""
    devices = kernel.net.devices.values()
    xdp = [
        _device(dev) | {"mode": MODES[dev.xdp.mode], "id": dev.xdp.active.prog.id}
        for dev in devices
        if dev.xdp.active is not None
    ]
    dissectors = [{"id": prog.id} for prog, _, _ in kernel.netns.running(AttachType.FLOW_DISSECTOR)]
    return [{"xdp": xdp, "tc": [row for dev in devices for row in _tc(dev)], "flow_dissector": dissectors}]


def _device(dev: "NetDevice") -> dict[str, Any]:
    return {"devname": dev.name, "ifindex": dev.ifindex}


def _tc(dev: "NetDevice") -> Iterator[dict[str, Any]]:
    for direction, kind in DIRECTIONS.items():
        entry = dev.tcx.entry(kind)
        for item in entry.mprog.items if entry is not None else ():
            row = {"kind": f"tcx/{direction}", "name": item.prog.name, "prog_id": item.prog.id, "prog_flags": []}
            yield _device(dev) | row | ({"link_id": item.link.id, "link_flags": []} if item.link is not None else {})
    for direction in DIRECTIONS if dev.qdisc is not None and dev.qdisc.kind == "clsact" else ():
        assert dev.qdisc is not None
        for each in dev.qdisc.side(direction).filters():
            yield _device(dev) | {"kind": f"clsact/{direction}", "name": each.prog.name, "id": each.prog.id}


def net_text(row: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that ``bpftool net show`` prints."""
    for section in ("xdp", "tc", "flow_dissector"):
        yield f"{section}:"
        for each in row[section]:
            where = f"{each['devname']}({each['ifindex']}) " if "devname" in each else ""
            words = [str(each[key]) for key in ("mode", "kind", "name") if key in each]
            words += [f"{key} {each[key]}" for key in ("id", "prog_id", "link_id") if key in each]
            yield where + " ".join(words)
        yield ""
