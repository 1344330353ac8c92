"""Congestion control of TCP: the list of algorithms, and tables of programs among them.

net/ipv4/tcp_cong.c and net/ipv4/bpf_tcp_ca.c, v6.18. What the kernel says in its log is a note of kind ``dmesg``.

``TcpCongestion`` is also what the stack calls: for an algorithm of the kernel (``netstack.tcp_reno``, ``tcp_cubic``,
``tcp_dctcp``) its object, for a table of programs the program of each function, with the socket's structure in RAM.

Left out: keys (a hash of the name, which here stands for itself), algorithms per namespace, restricted ones.
"""

from collections.abc import Callable, Container
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ebpfsim.btf.view import place, size_of
from ebpfsim.config import KernelConfig
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.isa.alu import u32
from hooks.link import HookKernel, note
from hooks.struct_ops import OpsMember, StructOpsTable
from netstack.napi import softnet_of
from netstack.tcp_cubic import Cubic
from netstack.tcp_dctcp import Dctcp
from netstack.tcp_reno import Reno
from netstack.tcp_states import TcpState

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["BpfTcpCa", "CongestionOps", "TcpCongestion"]

OP = "struct_ops"
TCP_CONG_MASK = 0x1F  # NON_RESTRICTED, NEEDS_ECN and three bits of accurate ECN (observed on Linux 6.18)
REQUIRED = ("ssthresh", "undo_cwnd")
EITHER = ("cong_avoid", "cong_control")
# what the stack does without a function, where that is a number: sysctl_tcp_min_tso_segs, tcp_sndbuf_expand()
DEFAULTS = {"min_tso_segs": 2, "sndbuf_expand": 2}
TCP_CONG_NON_RESTRICTED, TCP_CONG_NEEDS_ECN = 1, 2
DEFAULT = "cubic"


class CongestionOps:
    """An algorithm on the list (``struct tcp_congestion_ops``): one of the kernel, or a table of programs."""

    def __init__(
        self, name: str, flags: int = 0, table: StructOpsTable | None = None, algorithm: Reno | None = None
    ) -> None:
        self.name = name
        self.flags = flags
        self.table = table
        self.algorithm: Any = algorithm if algorithm is not None else BpfAlgorithm(self)

    def __repr__(self) -> str:
        return f"<CongestionOps '{self.name}'>"

    @property
    def members(self) -> dict[str, OpsMember]:
        """The functions that programs implement; the others are missing."""
        return self.table.members if self.table is not None else {}

    @property
    def needs_ecn(self) -> bool:
        """Whether it wants marks instead of losses (TCP_CONG_NEEDS_ECN)."""
        return bool(self.flags & TCP_CONG_NEEDS_ECN)

    def call(self, member: str, cpu: Cpu, *args: int) -> int:
        """Call a function as the stack does; one that is missing does nothing, or stands for a number."""
        found = self.members.get(member)
        return found(cpu, *args) if found is not None else DEFAULTS.get(member, 0)

    def sndbuf_expand(self, tp: "TcpSock") -> int:
        """Return how many windows the send buffer holds."""
        found = self.members.get("sndbuf_expand")
        return found(tp.net.cpus[0], tp.struct_address) if found is not None else 2

    def get(self) -> None:
        """Keep the algorithm for a socket (bpf_try_module_get)."""
        if self.table is not None:
            self.table.map.get()

    def put(self) -> None:
        """Let go of it (bpf_module_put)."""
        if self.table is not None:
            self.table.map.put()


class BpfAlgorithm:
    """A table of programs, as the stack calls algorithms. Programs see and change the socket's structure in RAM."""

    def __init__(self, ops: CongestionOps) -> None:
        self.ops = ops

    @property
    def has_pkts_acked(self) -> bool:
        """Whether it wants to know of every ACK."""
        return "pkts_acked" in self.ops.members

    @property
    def has_cong_control(self) -> bool:
        """Whether it sets the window by itself."""
        return "cong_control" in self.ops.members

    def _call(self, tp: "TcpSock", member: str, cpu: Cpu, *args: int) -> int:
        found = self.ops.members.get(member)
        if found is None:
            return 0
        before_ps = cpu.elapsed_ps
        result = found(cpu, tp.struct_address, *args)
        tp.net.tcp.structs.take_back(tp)
        # Differs: what it costs is charged at the end of the softirq, so that packets leave when they would have left
        # had the kernel's own algorithm been at work.
        softnet_of(cpu).put_off(cpu.elapsed_ps - before_ps)
        return result

    def clear(self, tp: "TcpSock") -> None:
        """Clear what the socket keeps for it."""
        tp.net.tcp.structs.clear_ca_priv(tp)

    def init(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket begins to use it."""
        self._call(tp, "init", cpu)

    def release(self, tp: "TcpSock", cpu: Cpu) -> None:
        """A socket uses it no longer."""
        self._call(tp, "release", cpu)

    def ssthresh(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the threshold after a loss."""
        return u32(self._call(tp, "ssthresh", cpu))

    def undo_cwnd(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the window after a loss that was none."""
        return u32(self._call(tp, "undo_cwnd", cpu))

    def cong_avoid(self, tp: "TcpSock", ack: int, acked: int, cpu: Cpu) -> None:
        """Let the window grow."""
        self._call(tp, "cong_avoid", cpu, ack, acked)

    def set_state(self, tp: "TcpSock", state: int, cpu: Cpu) -> None:
        """The socket enters a state."""
        self._call(tp, "set_state", cpu, state)

    def cwnd_event(self, tp: "TcpSock", event: int, cpu: Cpu) -> None:
        """Something happened."""
        self._call(tp, "cwnd_event", cpu, event)

    def in_ack_event(self, tp: "TcpSock", flags: int, cpu: Cpu) -> None:
        """An ACK came."""
        self._call(tp, "in_ack_event", cpu, flags)

    def pkts_acked(self, tp: "TcpSock", acked: int, rtt_us: int, cpu: Cpu) -> None:
        """Segments were acknowledged."""
        if "pkts_acked" in self.ops.members:
            # struct ack_sample
            mem = tp.net.kernel.mem
            sample = mem.alloc(16)
            mem.write(sample, acked.to_bytes(4, "little") + (rtt_us & 0xFFFF_FFFF).to_bytes(4, "little") + bytes(4))
            self._call(tp, "pkts_acked", cpu, sample)
            mem.free(sample)

    def cong_control(self, tp: "TcpSock", ack: int, flag: int, sample: Any, cpu: Cpu) -> None:
        """Set the window."""
        mem = tp.net.kernel.mem
        address = mem.alloc(size_of("rate_sample"))
        for name, value in (
            ("prior_mstamp", sample.prior_us), ("prior_delivered", sample.prior_delivered),
            ("delivered", sample.delivered), ("interval_us", sample.interval_us), ("rtt_us", sample.rtt_us),
            ("losses", sample.losses), ("acked_sacked", sample.acked_sacked),
            ("prior_in_flight", sample.prior_in_flight),
            ("is_app_limited", int(sample.is_app_limited)),
            ("is_retrans", int(sample.is_retrans)),
        ):  # fmt: skip
            offset, size = place("rate_sample", name)
            mem.store(address + offset, size, value & (1 << 8 * size) - 1)
        self._call(tp, "cong_control", cpu, ack, flag, address)
        mem.free(address)


class CongKernel(HookKernel, Protocol):
    """What the list of algorithms needs of a kernel."""

    config: KernelConfig


class TcpCongestion:
    """The algorithms of one kernel, in the order of their registration."""

    def __init__(self, kernel: CongKernel) -> None:
        self.kernel = kernel
        self.algorithms = [
            CongestionOps("reno", TCP_CONG_NON_RESTRICTED, algorithm=Reno()),
            CongestionOps("cubic", algorithm=Cubic()),
        ]
        # modules that are loaded when they are asked for
        self._modules = {"dctcp": CongestionOps("dctcp", TCP_CONG_NEEDS_ECN, algorithm=Dctcp())}
        self.default = str(kernel.config.sysctl.get("net.ipv4.tcp_congestion_control", DEFAULT))
        self._load(self.default)

    @property
    def available(self) -> list[str]:
        """Their names, as net.ipv4.tcp_available_congestion_control has them."""
        return [each.name for each in self.algorithms]

    def find(self, name: str) -> CongestionOps | None:
        """Return the algorithm of a name, or None (tcp_ca_find)."""
        return next((each for each in self.algorithms if each.name == name), None)

    def assign(self, name: str) -> CongestionOps:
        """Return the algorithm of a name for a socket, which puts it at its end; KernelError ENOENT."""
        self._load(name)
        found = self.find(name)
        if found is None:
            raise KernelError("tcp_set_congestion_control", Errno.ENOENT, f"no congestion control '{name}'")
        found.get()
        return found

    def _load(self, name: str) -> None:
        if self.find(name) is None and name in self._modules:
            self.register(self._modules.pop(name))

    def validate(self, name: str, members: Container[str]) -> None:
        """Refuse an algorithm without the functions that all have: EINVAL (tcp_validate_congestion_control)."""
        if all(each in members for each in REQUIRED) and any(each in members for each in EITHER):
            return
        self._refuse(Errno.EINVAL, f"{name} does not implement required ops")

    def register(self, ops: CongestionOps) -> None:
        """Add an algorithm at the end of the list: EEXIST for a name that is taken."""
        if self.find(ops.name) is not None:
            self._refuse(Errno.EEXIST, f"{ops.name} already registered or non-unique key")
        self.algorithms.append(ops)

    def unregister(self, ops: CongestionOps) -> None:
        """Take an algorithm off the list; sockets keep it."""
        self.algorithms.remove(ops)

    def update(self, new: CongestionOps, old: CongestionOps) -> None:
        """Put an algorithm in the place of another one of its name: EINVAL."""
        existing = self.find(old.name)
        if existing is None or existing.name != new.name:
            self._refuse(Errno.EINVAL, f"{new.name} not registered or non-unique key")
        if existing is not old:
            self._refuse(Errno.EINVAL, "invalid old congestion control algorithm to replace")
        self.algorithms.append(new)
        self.algorithms.remove(old)

    # what the stack calls

    def assign_default(self, tp: "TcpSock") -> None:
        """Give a new socket the default algorithm (tcp_assign_congestion_control)."""
        found = self.find(self.default)
        if found is None:
            self._refuse(Errno.ENOENT, f"no congestion control '{self.default}'")
        found.get()
        self._assign(tp, found)

    def _assign(self, tp: "TcpSock", ops: CongestionOps) -> None:
        tp.ca_ops = ops
        ops.algorithm.clear(tp)

    def inherit(self, tp: "TcpSock", listener: "TcpSock") -> None:
        """Give the child of a listener its algorithm (tcp_ca_openreq_child)."""
        if listener.ca_setsockopt and listener.ca_ops is not None:
            listener.ca_ops.get()
            self._assign(tp, listener.ca_ops)
        else:
            self.assign_default(tp)

    def set(self, tp: "TcpSock", name: str, cpu: Cpu) -> None:
        """Give a socket another algorithm (tcp_set_congestion_control); KernelError ENOENT."""
        found = self.assign(name)
        tp.ca_setsockopt = True
        if found is tp.ca_ops:
            found.put()
            return
        self.cleanup(tp, cpu)
        self._assign(tp, found)
        if tp.state not in (TcpState.CLOSE, TcpState.LISTEN):
            self.init(tp, cpu)

    def init(self, tp: "TcpSock", cpu: Cpu) -> None:
        """Begin (tcp_init_congestion_control)."""
        tp.prior_ssthresh = 0
        assert tp.ca_ops is not None
        tp.ca_ops.algorithm.init(tp, cpu)
        tp.ca_initialized = True

    def cleanup(self, tp: "TcpSock", cpu: Cpu) -> None:
        """End (tcp_cleanup_congestion_control)."""
        if tp.ca_ops is None:
            return
        if tp.ca_initialized:
            tp.ca_ops.algorithm.release(tp, cpu)
            tp.ca_initialized = False
        tp.ca_ops.put()
        tp.ca_ops = None

    def ssthresh(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the threshold after a loss."""
        return int(_of(tp).ssthresh(tp, cpu))

    def undo_cwnd(self, tp: "TcpSock", cpu: Cpu) -> int:
        """Return the window after a loss that was none."""
        return int(_of(tp).undo_cwnd(tp, cpu))

    def cong_avoid(self, tp: "TcpSock", ack: int, acked: int, cpu: Cpu) -> None:
        """Let the window grow."""
        _of(tp).cong_avoid(tp, ack, acked, cpu)

    def set_state(self, tp: "TcpSock", state: int, cpu: Cpu) -> None:
        """The socket enters a state."""
        _of(tp).set_state(tp, state, cpu)

    def event(self, tp: "TcpSock", event: int, cpu: Cpu) -> None:
        """Something happened (tcp_ca_event)."""
        if tp.ca_ops is not None:
            tp.ca_ops.algorithm.cwnd_event(tp, event, cpu)

    def in_ack_event(self, tp: "TcpSock", flags: int, cpu: Cpu) -> None:
        """An ACK came."""
        if tp.ca_ops is not None:
            tp.ca_ops.algorithm.in_ack_event(tp, flags, cpu)

    def has_pkts_acked(self, tp: "TcpSock") -> bool:
        """Whether the algorithm wants to know of every ACK."""
        return bool(_of(tp).has_pkts_acked)

    def pkts_acked(self, tp: "TcpSock", acked: int, rtt_us: int, cpu: Cpu) -> None:
        """Segments were acknowledged."""
        _of(tp).pkts_acked(tp, acked, rtt_us, cpu)

    def has_cong_control(self, tp: "TcpSock") -> bool:
        """Whether the algorithm sets the window by itself."""
        return bool(_of(tp).has_cong_control)

    def min_tso_segs(self, tp: "TcpSock") -> int:
        """Return how many segments are sent at once at least."""
        ops = tp.ca_ops
        if ops is None or "min_tso_segs" not in ops.members:
            return int(tp.net.sysctls["net.ipv4.tcp_min_tso_segs"])
        return ops.call("min_tso_segs", tp.net.cpus[0], tp.struct_address)

    def cong_control(self, tp: "TcpSock", ack: int, flag: int, sample: Any, cpu: Cpu) -> None:
        """Let the algorithm set the window."""
        _of(tp).cong_control(tp, ack, flag, sample, cpu)

    def _refuse(self, errno: Errno, text: str) -> NoReturn:
        note(self.kernel, "dmesg", f"TCP: {text}", {})
        raise KernelError(OP, errno, text)


def _of(tp: "TcpSock") -> Any:
    assert tp.ca_ops is not None
    return tp.ca_ops.algorithm


class BpfTcpCa:
    """Tables of programs as algorithms (``bpf_tcp_congestion_ops``)."""

    name = "tcp_congestion_ops"

    def __init__(self, congestion: TcpCongestion) -> None:
        self.congestion = congestion
        self._algorithms: dict[int, CongestionOps] = {}

    def init_member(self, table: StructOpsTable, member: str, value: bytes) -> bool:
        """Take over flags and name: EINVAL for unknown flags, or a name that is empty, too long or no word."""
        if member == "flags":
            fits = not int.from_bytes(value, "little") & ~TCP_CONG_MASK
        elif member == "name":
            # bpf_obj_name_cpy
            name, _, _ = value.partition(b"\0")
            fits = 0 < len(name) < len(value) and all(chr(byte).isalnum() or byte in b"_." for byte in name)
            fits = fits and name.isascii()
            value = name.ljust(len(value), b"\0")
        else:
            return False
        if not fits:
            raise KernelError("map_update_elem", Errno.EINVAL, f"{table.map.title}: {member} {value!r}")
        table.data[member] = value
        return True

    def validate(self, table: StructOpsTable) -> None:
        """Refuse a table without the functions that all have."""
        self.congestion.validate(_name(table), table.members)

    def register(self, table: StructOpsTable) -> None:
        """Add a table to the list."""
        self._register(table, self.congestion.register)

    def unregister(self, table: StructOpsTable) -> None:
        """Take it off the list."""
        self.congestion.unregister(self._algorithms.pop(table.address))

    def update(self, new: StructOpsTable, old: StructOpsTable) -> None:
        """Put a table in the place of another one."""
        before = self._algorithms[old.address]
        self._register(new, lambda ops: self.congestion.update(ops, before))
        del self._algorithms[old.address]

    def _register(self, table: StructOpsTable, add: Callable[[CongestionOps], None]) -> None:
        ops = CongestionOps(_name(table), int.from_bytes(table.data["flags"], "little"), table)
        add(ops)
        self._algorithms[table.address] = ops


def _name(table: StructOpsTable) -> str:
    return table.data["name"].rstrip(b"\0").decode()
