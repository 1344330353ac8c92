"""Steps of attaching XDP programs to a veth device ``v`` and to ``lo`` on a simulated host.

Those of Linux are tests/unit/hooks/live_xdp_attach.py.
"""

from typing import Any

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.net import XdpMode

# by name: what a program is loaded as
PROGRAMS: dict[str, tuple[ProgType, dict[str, int]]] = {
    "P": (ProgType.XDP, {}),
    "Q": (ProgType.XDP, {}),
    "F": (ProgType.XDP, {"prog_flags": 32}),
    "S": (ProgType.SOCKET_FILTER, {}),
    "X": (ProgType.XDP, {"expected_attach_type": AttachType.XDP}),
    "D": (ProgType.XDP, {"expected_attach_type": AttachType.XDP_DEVMAP}),
    "C": (ProgType.XDP, {"expected_attach_type": AttachType.XDP_CPUMAP}),
}
BPF_F_REPLACE = 4


class Simulated:
    """A host with both devices."""

    def __init__(self) -> None:
        self.host = Simulation().host("h")
        self.host.veth("v", "w")
        self.bpf = self.host.bpf
        code = encode(assemble("r0 = 0; exit"))
        self.progs = {
            name: self.bpf.prog_load(kind, code, name=name, **more).fd for name, (kind, more) in PROGRAMS.items()
        }
        self.names = {self.bpf.obj_get_info_by_fd(fd).id: name for name, fd in self.progs.items()}
        self.links: dict[str, int] = {}
        self.devices = {name: self.host.device(name) for name in ("lo", "v")}

    def link(self, name: str, device: str, prog: str, flags: int) -> str:
        """BPF_LINK_CREATE."""
        ifindex = self.devices[device].ifindex
        self.links[name] = self.bpf.link_create(self.progs[prog], ifindex, AttachType.XDP, flags=flags)
        return "ok"

    def update(self, name: str, prog: str, old: str | None) -> str:
        """BPF_LINK_UPDATE."""
        link, more = self.links[name], {"old_prog_fd": self.progs[old], "flags": BPF_F_REPLACE} if old else {}
        self.bpf.link_update(link, self.progs[prog], **more)
        return "ok"

    def detach(self, name: str) -> str:
        """BPF_LINK_DETACH."""
        self.bpf.link_detach(self.links[name])
        return "ok"

    def close(self, name: str) -> str:
        """Close the descriptor of a link."""
        self.bpf.close(self.links.pop(name))
        return "ok"

    def netlink(self, device: str, prog: str | None, flags: int, expected: str | None = "") -> str:
        """IFLA_XDP."""
        more = {} if expected == "" else {"expected": self.progs[expected] if expected else None}
        self.host.link_set_xdp(device, self.progs[prog] if prog else None, flags=flags, **more)
        return "ok"

    def mtu(self, mtu: int) -> str:
        """Set the MTU of the other end."""
        self.host.device("w").set_mtu(mtu)
        return "ok"

    def remove(self) -> str:
        """Remove the pair."""
        self.host.link_del("v")
        return "ok"

    def info(self, name: str) -> str:
        """Tell a link's program and device."""
        info = self.bpf.obj_get_info_by_fd(self.links[name])
        where = next(
            (known for known, dev in self.devices.items() if dev.ifindex == info.details["ifindex"]), "nothing"
        )
        return f"{self.names[info.prog_id]} on {where}"

    def state(self, device: str) -> str:
        """Tell what a device has."""
        xdp = self.devices[device].xdp
        modes = {XdpMode.NATIVE: "native", XdpMode.GENERIC: "generic"}
        return f"{xdp.active.prog.name} {modes[xdp.mode]}" if xdp.active else "none"

    def step(self, what: str, *args: Any) -> str:
        """Do one step; return what came of it, or the refusal."""
        try:
            found: str = getattr(self, what)(*args)
        except KernelError as error:
            words = error.detail if what == "netlink" else ""
            return f"{error.errno_name}: {words}" if words else error.errno_name
        except KeyError as error:
            return f"no {error}"
        return found
