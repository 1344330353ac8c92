"""Congestion control of TCP: the list of algorithms, and tables of programs among them.

net/ipv4/tcp_cong.c and net/ipv4/bpf_tcp_ca.c, v6.18. What the kernel says in its log is a note of kind ``dmesg``.

Left out: keys (a hash of the name, which here stands for itself), algorithms per namespace, restricted ones. Those of
the kernel itself (reno, cubic) have names only.
"""

from collections.abc import Callable, Container
from typing import NoReturn

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, NotModelled
from hooks.link import HookKernel, note
from hooks.struct_ops import OpsMember, StructOpsTable

__all__ = ["BpfTcpCa", "CongestionOps", "TcpCongestion"]

OP = "struct_ops"
TCP_CONG_MASK = 0x1F  # NON_RESTRICTED, NEEDS_ECN and three bits of accurate ECN (observed on Linux 6.18)
REQUIRED = ("ssthresh", "undo_cwnd")
EITHER = ("cong_avoid", "cong_control")
# what the stack does without a function, where that is a number: sysctl_tcp_min_tso_segs, tcp_sndbuf_expand()
DEFAULTS = {"min_tso_segs": 2, "sndbuf_expand": 2}
BUILTIN = ("reno", "cubic")


class CongestionOps:
    """An algorithm on the list (``struct tcp_congestion_ops``); ``members`` are its functions, by name."""

    def __init__(self, name: str, flags: int = 0, table: StructOpsTable | None = None) -> None:
        self.name = name
        self.flags = flags
        self.table = table

    def __repr__(self) -> str:
        return f"<CongestionOps '{self.name}'>"

    @property
    def members(self) -> dict[str, OpsMember]:
        """The functions that programs implement; the others are missing."""
        if self.table is None:
            raise NotModelled(f"congestion control '{self.name}' of the kernel itself", f"net/ipv4/tcp_{self.name}.c")
        return self.table.members

    def call(self, member: str, cpu: Cpu, *args: int) -> int:
        """Call a function as the stack does; one that is missing does nothing, or stands for a number."""
        found = self.members.get(member)
        return found(cpu, *args) if found is not None else DEFAULTS.get(member, 0)

    def get(self) -> None:
        """Keep the algorithm for a socket (bpf_try_module_get)."""
        if self.table is not None:
            self.table.map.get()

    def put(self) -> None:
        """Let go of it (bpf_module_put)."""
        if self.table is not None:
            self.table.map.put()


class TcpCongestion:
    """The algorithms of one kernel, in the order of their registration."""

    def __init__(self, kernel: HookKernel) -> None:
        self.kernel = kernel
        self.algorithms = [CongestionOps(name) for name in BUILTIN]

    @property
    def available(self) -> list[str]:
        """Their names, as net.ipv4.tcp_available_congestion_control has them."""
        return [each.name for each in self.algorithms]

    def find(self, name: str) -> CongestionOps | None:
        """Return the algorithm of a name, or None (tcp_ca_find)."""
        return next((each for each in self.algorithms if each.name == name), None)

    def assign(self, name: str) -> CongestionOps:
        """Return the algorithm of a name for a socket, which puts it at its end; KernelError ENOENT."""
        found = self.find(name)
        if found is None:
            raise KernelError("tcp_set_congestion_control", Errno.ENOENT, f"no congestion control '{name}'")
        found.get()
        return found

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

    def _refuse(self, errno: Errno, text: str) -> NoReturn:
        note(self.kernel, "dmesg", f"TCP: {text}", {})
        raise KernelError(OP, errno, text)


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
