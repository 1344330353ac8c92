"""A laboratory: any number of hosts with their network stacks on one clock, without bpf(2) and the verifier."""

import re
from struct import pack
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.costs import load_profile
from ebpfsim.cpu import Cpu
from ebpfsim.errors import InternalError
from ebpfsim.isa.asm import assemble
from ebpfsim.jit.engine import execute
from ebpfsim.maps.devmap import DevmapMap
from ebpfsim.maps.map import Map, MapAttr
from ebpfsim.maps.types import create_map
from ebpfsim.memory import Memory
from ebpfsim.objects import IdTable, KernelObject
from ebpfsim.progs.prog import Prog, Subprog
from ebpfsim.recorder import PacketRecord, Recorder
from ebpfsim.rng import Rng
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.vm.interp import compile_prog
from hooks.cgroup import CgroupTree
from hooks.dispatcher import Dispatcher
from hooks.netns import NetNs
from hooks.xdp import XdpLink, bpf_xdp_link_attach
from netstack.device import NetDevice
from netstack.helpers import HELPERS
from netstack.net import Net
from netstack.wire import Wire, connect
from tracing.functions import KernelFunctions
from tracing.lsm import add_security_hooks
from tracing.tracepoints import Tracepoints


class LabKernel:
    """What the network stack asks of a kernel."""

    def __init__(self, lab: "Lab", name: str, config: KernelConfig) -> None:
        self.name = name
        self.config = config
        self.stats_enabled = config.stats
        self.mem = lab.mem
        self.clock = lab.clock
        self.rng = lab.rng
        self.recorder = lab.recorder
        self.costs = load_profile(config.costs)
        self.cpus = [Cpu(number, lab.clock, lab.mem) for number in range(config.cpus)]
        self.helpers = HELPERS
        self.links: IdTable[KernelObject] = IdTable()
        self.maps: IdTable[Map] = IdTable()
        self.progs: IdTable[Prog] = IdTable()
        self.functions = KernelFunctions()
        add_security_hooks(self.functions, self.mem)
        self.tracepoints = Tracepoints(self, execute)
        self.xdp_dispatcher = Dispatcher(self)
        self.cgroups = CgroupTree(self)
        self.netns = NetNs(self)

    def map_at(self, address: int) -> Map:
        return next(found for found in self.maps if found.address == address)

    def net_namespace_address(self) -> int:
        return 0

    def interrupt(self, cpu: Cpu, name: str, handler: Any) -> None:
        handler()

    def forget_owner(self, kind: MapType, address: int) -> None:
        pass

    def trace_print(self, cpu: Cpu, text: bytes) -> None:
        raise InternalError("no trace pipe")


class Lab:
    """Hosts by ``net``, wires by ``connect`` or ``link``; ``run`` lets everything happen."""

    def __init__(self, seed: int = 1) -> None:
        self.clock = Clock()
        self.rng = Rng(seed)
        self.mem = Memory(1 << 28)
        self.recorder = Recorder()
        self.nets: list[Net] = []

    def net(self, name: str, **config: Any) -> Net:
        net = Net(LabKernel(self, name, KernelConfig(**config)), len(self.nets))
        self.nets.append(net)
        return net

    def pair(self, **shape: Any) -> tuple[Net, Net]:
        """Two hosts, a with 10.0.0.1/24 and b with 10.0.0.2/24 on eth0."""
        a, b = self.net("a"), self.net("b")
        self.connect(a.add_nic("eth0", "10.0.0.1/24"), b.add_nic("eth0", "10.0.0.2/24"), **shape)
        return a, b

    def connect(self, a: NetDevice, b: NetDevice, **shape: Any) -> Wire:
        return connect(a, b, **shape)

    def know(self, *nets: Net) -> None:
        """Let hosts know each other's MAC addresses, so that no ARP frames are sent."""
        for one in nets:
            for other in nets:
                for dev in other.devices.values():
                    for address in dev.addresses if one is not other and not dev.loopback else ():
                        one.neigh.add(one.devices["eth0"], address.address, dev.mac)

    def run(self, until_ns: int | None = None) -> None:
        self.clock.run(until_ns)

    def frames(self, net: Net, direction: str, device: str = "eth0") -> list[PacketRecord]:
        """The records of a device."""
        return [
            record
            for record in self.recorder.packets
            if (record.host, record.device, record.direction) == (net.name, device, direction)
        ]

    def bench(self, *, forward: bool = False) -> "Bench":
        """The host or router under test and what surrounds it."""
        return Bench(self, forward)

    def prog(self, net: Net, text: str, attach_type: AttachType = AttachType.XDP, prog_flags: int = 0) -> Prog:
        """A program as it is after the verifier: its context is struct xdp_buff, maps are addresses."""
        insns = assemble(text)
        subprogs = (Subprog(0, len(insns), "main", 512),)
        prog = Prog("p", ProgType.XDP, attach_type, insns, subprogs, (), prog_flags=prog_flags)
        net.kernel.progs.add(prog)
        prog.image_addr = self.mem.alloc(len(insns) * 8)
        prog.run = compile_prog(prog, net.kernel)
        return prog

    def attach(self, dev: NetDevice, program: str | Prog, flags: int = 0, label: str = "") -> XdpLink:
        """Attach a program, or the text of one, by a link."""
        prog = self.prog(dev.net, program) if isinstance(program, str) else program
        return bpf_xdp_link_attach(dev.net.kernel, dev.xdp, prog, flags, label)

    def devmap(self, net: Net, map_type: MapType, entries: dict[int, tuple[NetDevice, Prog | None]]) -> DevmapMap:
        """A devmap with entries: device, and the program on its way out. Descriptors of programs are ids here."""
        env = SimpleNamespace(prog_by_fd=net.kernel.progs.find, device_by_ifindex=net.dev_get_by_index)
        map_ = create_map(MapAttr(map_type, 4, 8, 8), self.mem, 1, env)
        net.kernel.maps.add(map_)
        for index, (dev, prog) in entries.items():
            map_.sys_update(pack("<I", index), pack("<Ii", dev.ifindex, prog.id if prog is not None else 0))
        return map_


class Outcome(NamedTuple):
    """What one frame led to: why it was dropped (empty: it was not), counters that moved, frames sent back and on."""

    reason: str
    counters: dict[str, int]
    replies: list[bytes]
    forwarded: list[bytes]


class Bench:
    """``r`` with 10.0.1.2 on eth0 and 10.0.2.2 on eth1 (MTU 1000), UDP sockets on port 53 and, by address, 54.

    The same as was built of network namespaces and veth on Linux 6.18.44 to find out what the tests expect: the
    sender is 10.0.1.1 with 02:00:00:00:00:0a, eth0 has 02:00:00:00:00:0b, 10.0.2.9 is behind eth1; neighbours are
    permanent, ICMP rate limits off, rp_filter off.
    """

    def __init__(self, lab: Lab, forward: bool) -> None:
        self.lab = lab
        self.r = lab.net("r", sysctl={"net.ipv4.ip_forward": int(forward)})
        self.eth0 = self.r.add_nic("eth0", "10.0.1.2/24", "02:00:00:00:00:0b")
        self.eth1 = self.r.add_nic("eth1", "10.0.2.2/24", "02:00:00:00:00:0c", mtu=1000)
        self.sender = lab.net("a").add_nic("eth0", (), "02:00:00:00:00:0a", mtu=9000)
        self.beyond = lab.net("c").add_nic("eth0", (), "02:00:00:00:00:0d")
        lab.connect(self.sender, self.eth0)
        lab.connect(self.eth1, self.beyond)
        self.r.neigh.add(self.eth0, 0x0A000101, self.sender.mac)
        self.r.neigh.add(self.eth1, 0x0A000209, self.beyond.mac)
        self.any = self.r.udp_socket(port=53)
        self.bound = self.r.udp_socket("10.0.1.2", 54)

    def case(self, frame: bytes) -> Outcome:
        """Let the sender send a frame and everything happen."""
        before = self.r.snmp.as_dict()
        self.lab.recorder.packets.clear()
        self.sender.inject(bytes(frame))
        self.lab.run()
        after = self.r.snmp.as_dict()
        (received,) = self.lab.frames(self.r, "in")
        return Outcome(
            received.reason,
            {name: after[name] - before[name] for name in after if after[name] != before[name] and not _GENERAL(name)},
            [record.data for record in self.lab.frames(self.r, "out")],
            [record.data for record in self.lab.frames(self.r, "out", "eth1")],
        )


# counters of bytes and ECN bits, which go up with every packet
_GENERAL = re.compile(r"IpExt.*(Octets|ECT\d?Pkts|CEPkts)").fullmatch


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture(scope="session")
def new_lab() -> type[Lab]:
    return Lab
