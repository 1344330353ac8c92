"""What users hold in their hands: a simulation with its clock, hosts and wires.

::

    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b", cpus=2)
    sim.link(a.nic("eth0", "10.0.0.1/24"), b.nic("eth0", "10.0.0.2/24"), rate="10Gbit", delay="20us")
    obj = b.load("firewall.bpf.o")
    link = b.attach_xdp(obj.programs["firewall"], "eth0")
    sim.run(until="5ms")
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_struct_ops import AttachedStructOps, RegisteredStructOps, attach_struct_ops
from ebpfsim.clock import Clock, parse_duration, parse_rate
from ebpfsim.config import INSN_BUDGET, KernelConfig
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.frames import to_frames
from ebpfsim.host_devices import HostDevices
from ebpfsim.host_net import HostNet
from ebpfsim.host_tracing import HostTracing, attach_all
from ebpfsim.host_traffic import HostTraffic
from ebpfsim.jit.engine import ENGINES
from ebpfsim.kernel import Kernel
from ebpfsim.loader import Object, ObjectMap, Program, open_object
from ebpfsim.loader.struct_ops import StructOps
from ebpfsim.memory import Memory
from ebpfsim.perf_buffer import PerfBuffer
from ebpfsim.progs.prog import Prog
from ebpfsim.recorder import Recorder
from ebpfsim.records import RecordReader
from ebpfsim.rng import Rng
from ebpfsim.runner import Runner
from ebpfsim.syscall.task import TaskBpf, capabilities
from ebpfsim.task_steps import Value
from ebpfsim.tasks import HostTask
from ebpfsim.uapi.flags import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
from hooks.xdp import bpf_xdp_link_attach
from netstack.net import Net
from netstack.nic import Nic
from netstack.pcap import read_capture
from netstack.qdisc import Qdisc
from netstack.qdisc_add import add_qdisc
from netstack.sock import UdpSocket
from netstack.traffic import inject, replay
from netstack.udp6 import UdpSocket6
from netstack.wire import DEFAULT_QUEUE, Wire, connect
from netstack.xsk_user import XskSocket

if TYPE_CHECKING:
    from scapy.packet import Packet

    from ebpfsim.vm.step import Step, Stepper

__all__ = ["Host", "Simulation"]

GC_THRESHOLD = 100_000
_XDP_MODES = {"": 0, "native": XDP_FLAGS_DRV_MODE, "generic": XDP_FLAGS_SKB_MODE}


class Host(HostDevices, HostNet, HostTracing, HostTraffic):
    """One simulated machine. ``bpf`` is its bpf(2), ``net`` its network stack, ``trace_pipe`` what programs print."""

    def __init__(self, sim: "Simulation", name: str, config: KernelConfig) -> None:
        self.sim = sim
        self.name = name
        self.kernel = Kernel(name, config, sim.mem, sim.clock, sim.rng, sim.recorder, len(sim.hosts))
        self.bpf = self.kernel.bpf
        self.net = self.kernel.net
        self.trace_pipe = self.kernel.trace_pipe

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    def bpf_as(self, caps: Iterable[str] = ()) -> TaskBpf:
        """Return bpf(2) for a task with some capabilities, as ``{"CAP_BPF", "CAP_NET_ADMIN"}``; ``bpf`` is root's.

        Without CAP_BPF the sysctl kernel.unprivileged_bpf_disabled (2 by default) decides what is left.
        """
        return TaskBpf(self.kernel.bpf, capabilities(caps))

    def nic(
        self,
        name: str,
        address: str | Iterable[str] = (),
        *,
        mac: str | None = None,
        mtu: int = 1500,
        queues: int = 1,
        ring: int = 512,
    ) -> Nic:
        """Add a network card with addresses such as ``"10.0.0.1/24"`` and return it."""
        return self.net.add_nic(name, address, mac, mtu, queues, ring)

    def netns(self, name: str) -> "Namespace":
        """Return a network namespace of this host, made when there is none of that name."""
        net = self.net.namespaces.get(name)
        return Namespace(self, net if net is not None else self.net.add_namespace(name))

    def open(self, path: str | PathLike[str]) -> Object:
        """Open an object file; nothing is loaded before ``load()`` of what this returns."""
        obj = open_object(path, bpf=self.bpf)
        obj.attach_all = self._attach_all
        return obj

    def _attach_all(self, obj: Object) -> dict[str, Any]:
        # programs, then tables of functions (bpf_object__attach_skeleton)
        links: dict[str, Any] = dict(attach_all(self, obj))
        try:
            for name, table in obj.struct_ops.items():
                if table.map.created:
                    links[name] = self.attach_struct_ops(table)
        except BaseException:
            for link in links.values():
                link.close()
            raise
        return links

    def attach_struct_ops(self, table: StructOps, *, label: str = "") -> AttachedStructOps | RegisteredStructOps:
        """Register a table of functions, one of ``obj.struct_ops``: by a link where its section says so."""
        return attach_struct_ops(self, table, label)

    def load(self, path: str | PathLike[str]) -> Object:
        """Open an object file, create its maps and load every program that autoloads."""
        obj = self.open(path)
        obj.load()
        return obj

    def attach_xdp(
        self, program: Program | Prog | int, device: str, *, mode: str = "", label: str = ""
    ) -> AttachedLink:
        """Attach a program (of an object, or by its fd) to a device's XDP hook by a link.

        ``mode`` is ``native``, ``generic`` or empty: native where the driver can. ``label`` names the link in records.
        """
        flags = _XDP_MODES.get(mode)
        if flags is None:
            raise InputError("", f"XDP mode '{mode}' is not known", "native or generic")
        state = self.device(device).xdp
        return AttachedLink(self, bpf_xdp_link_attach(self.kernel, state, self.prog(program), flags, label))

    def send(
        self,
        device: str,
        packets: "Packet | bytes | Iterable[Packet | bytes]",
        *,
        count: int = 1,
        every: str | int = 0,
        at: str | int | None = None,
    ) -> int:
        """Let frames leave a device as a packet generator below the stack sends them; return how many.

        The packets are sent ``count`` times over, each frame ``every`` after the one before it, from ``at`` on
        (absolute; by default now). Addresses that a scapy packet leaves out are those of the device and its next hop.
        """
        dev = self.device(device)
        frames = to_frames(packets, dev, self.sim.owners())
        inject(dev, frames, self._start_ns(at), parse_duration(every), copies=count)
        return len(frames) * count

    def replay(
        self,
        device: str,
        capture: str | PathLike[str],
        *,
        speed: float = 1,
        at: str | int | None = None,
    ) -> int:
        """Let a device send the frames of a pcap or pcapng file with its distances in time; return how many."""
        frames = read_capture(Path(capture))
        replay(self.device(device), frames, self._start_ns(at), speed=speed)
        return len(frames)

    def spawn(
        self,
        name: str,
        *,
        uid: int = 0,
        gid: int | None = None,
        cpu: int | None = None,
        steps: Sequence[object] | None = None,
        at: str | int | None = None,
        cgroup: str = "",
        stack: Sequence[int] = (),
    ) -> HostTask:
        """Start a task that makes the system calls of ``steps`` and exits; without steps it waits for ``syscall``.

        A step is ``{openat: ["/etc/passwd", "O_RDONLY"], "as": "fd"}``; see ``ebpfsim.task_steps``. ``results`` of the
        task tell what each came to. ``at`` is absolute; by default the task starts now. ``cgroup`` is the path of its
        control group, which is made when it is not there. ``stack`` are addresses in user space: where it is, then who
        called that, for stacks of user space.
        """
        start_ns = self._start_ns(at)
        return HostTask(
            self.kernel, name, steps, uid=uid, gid=gid, cpu=cpu, start_ns=start_ns, cgroup=cgroup, stack=stack
        )

    def syscall(self, task: HostTask, name: str, *args: Value) -> int:
        """Let a task without steps of its own make one system call; the result, a negative errno included."""
        return task.call(name, *args)

    def udp_socket(
        self, address: str = "0.0.0.0", port: int = 0, *, cgroup: str = "/", reuseport: bool = False
    ) -> UdpSocket:
        """Return a simulated UDP socket, bound; ``.received`` has what arrived. It belongs to a cgroup by its path.

        Sockets with ``reuseport`` (SO_REUSEPORT) may have the same address and port.
        """
        return self.net.udp_socket(address, port, cgroup=self.cgroup(cgroup), reuseport=reuseport)

    def udp_socket6(self, address: str = "::", port: int = 0) -> UdpSocket6:
        """Return a simulated UDP socket of IPv6, bound; ``.received`` has what arrived."""
        return self.net.udp_socket6(address, port)

    def qdisc(self, device: str, kind: str, **options: Any) -> Qdisc:
        """Give a device a root discipline (``tc qdisc replace dev DEVICE root KIND ...``): netem, tbf, prio, fq, htb.

        ::

            host.qdisc("eth0", "netem", delay="10ms", loss="1%")
        """
        return add_qdisc(self.device(device), kind, **options)

    def socket_fd(self, sock: UdpSocket | XskSocket) -> int:
        """Return a descriptor of a socket, as maps of sockets take it."""
        sock.file.get()
        return self.kernel.fds.install(sock.file)

    def _start_ns(self, at: str | int | None) -> int:
        return self.sim.clock.now_ns if at is None else parse_duration(at)

    def prog(self, program: Program | Prog | int) -> Prog:
        """Return the loaded program behind an object's program or a descriptor; KernelError EBADF."""
        if isinstance(program, Prog):
            return program
        fd = program if isinstance(program, int) else program.fd
        found = self.kernel.fds.lookup(fd)
        if not isinstance(found, Prog):
            raise KernelError("link_create", Errno.EBADF, f"fd {fd} of host '{self.name}' is no program")
        return found

    def perf_buffer(self, events: ObjectMap | int, *, pages: int = 8) -> PerfBuffer:
        """Read what programs write to a perf event array (or its descriptor): a ring of ``pages`` for each CPU."""
        return PerfBuffer(self.kernel, events, pages)

    def records(self, events: ObjectMap, type: str | None = None) -> RecordReader:  # noqa: A002 - a word of the C type
        """Read what programs write to a ring or perf buffer, as values of a C type (``ebpfsim.records``)."""
        return RecordReader(self.kernel, events, type)

    def runner(self, program: Program | Prog | int) -> Runner:
        """Return an XDP program as a function of a packet, for many calls from Python (``ebpfsim.runner``)."""
        return Runner(self.kernel, self.prog(program))

    def step(self, program: Program | Prog | int, hook: "Callable[[Step], None] | None" = None) -> "Stepper":
        """Return what runs a program in single steps inside ``with``, with a hook before each (``ebpfsim.vm.step``)."""
        from ebpfsim.vm.step import Stepper

        return Stepper(self.prog(program), self.kernel, hook)


class Namespace(Host):
    """A network namespace of a host: the same kernel, seen by a task in the namespace.

    ``bpf`` finds interface indexes among the namespace's devices, and so do maps of objects that are loaded here.
    """

    def __init__(self, host: Host, net: Net) -> None:
        self.sim, self.kernel, self.trace_pipe = host.sim, host.kernel, host.trace_pipe
        self.name, self.net = net.name, net
        self.bpf = host.kernel.bpf_in(net)


class Simulation:
    """One clock, one RAM, any number of hosts. The same calls with the same ``seed`` give the same bytes.

    Without ``record`` frames and runs of programs are counted but not kept, which saves time and memory.
    """

    def __init__(self, seed: int = 0, *, record: bool = True) -> None:
        self.seed = seed
        self.mem = Memory()
        self.clock = Clock()
        self.rng = Rng(seed)
        self.recorder = Recorder(keeps=record)
        self.hosts: dict[str, Host] = {}
        self.wires: list[Wire] = []

    @property
    def now_ns(self) -> int:
        """Simulated nanoseconds since the start."""
        return self.clock.now_ns

    def host(
        self,
        name: str,
        *,
        cpus: int = 1,
        mitigations: str = "auto",
        costs: str = "skx3",
        stats: bool = False,
        debug: bool = False,
        engine: str = "auto",
        insn_budget: int = INSN_BUDGET,
        sysctl: dict[str, int | str] | None = None,
    ) -> Host:
        """Add a simulated machine; what the settings mean stands at ``KernelConfig``.

        Memory that was in use before the first machine in debug mode is checked less exactly.
        """
        if name in self.hosts:
            raise InputError("", f"there is a host '{name}' already")
        if engine not in ENGINES:
            raise InputError("", f"engine '{engine}' is not known", f"one of {', '.join(ENGINES)}")
        if not 0 < insn_budget < 1 << 62:
            raise InputError("", f"a budget of {insn_budget} instructions", "at least 1")
        config = KernelConfig(
            cpus=cpus, mitigations=mitigations, costs=costs, stats=stats, debug=debug, engine=engine,
            insn_budget=insn_budget, sysctl=sysctl or {},
        )  # fmt: skip
        host = self.hosts[name] = Host(self, name, config)
        return host

    def link(
        self,
        a: Nic,
        b: Nic,
        *,
        rate: str | int | None = None,
        delay: str | int = 0,
        loss: float | str = 0.0,
        queue: int = DEFAULT_QUEUE,
    ) -> Wire:
        """Connect two cards by a wire: bits per second (none: no limit), one-way delay, loss (0.01 or "1%"), frames."""
        rate_bps = None if rate is None else parse_rate(rate)
        wire = connect(a, b, rate_bps=rate_bps, delay_ns=parse_duration(delay), loss=_probability(loss), queue=queue)
        self.wires.append(wire)
        return wire

    def run(self, until: str | int | None = None) -> None:
        """Let simulated time pass until an absolute instant, or until nothing is left to happen."""
        # looking for cycles of garbage as often as usual takes a third of the time when there are many hosts
        thresholds = gc.get_threshold()
        gc.set_threshold(thresholds[0] and max(thresholds[0], GC_THRESHOLD), *thresholds[1:])
        try:
            self.clock.run(None if until is None else parse_duration(until))
        finally:
            gc.set_threshold(*thresholds)

    def owners(self) -> dict[int, bytes]:
        """Return the MAC address behind each address of the simulation, of IPv4 and IPv6."""
        found: dict[int, bytes] = {}
        for host in self.hosts.values():
            for net in (host.net, *host.net.namespaces.values()):
                for dev in net.devices.values():
                    if dev.loopback:
                        continue
                    found |= {address.address: dev.mac for address in dev.addresses}
                    if dev.ifindex in net.ipv6.devices:
                        found |= {address: dev.mac for address, _ in net.ipv6.devices[dev.ifindex].addresses}
        return found


def _probability(value: float | str) -> float:
    if not isinstance(value, str):
        return float(value)
    try:
        return float(value.removesuffix("%")) / 100 if value.endswith("%") else float(value)
    except ValueError:
        raise InputError("", f"loss {value!r} is not a probability", "a number such as 0.01, or '1%'") from None
