"""What a route is looked up for, and what was found, as probes and tracepoints see it (``struct flowi4``, v6.18).

The structures lie in RAM only while a function or a tracepoint of the stack is watched; those of the last lookups stay.
"""

from typing import TYPE_CHECKING, Any

from ebpfsim.btf.view import Field, KernelStruct, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory import Memory
from netstack.fib import LOCAL_TABLE, MAIN_TABLE
from netstack.marks import touch
from tracing.functions import packet_function

if TYPE_CHECKING:
    from netstack.fib import Route
    from netstack.net import Net

__all__ = ["LOCAL_TABLE", "MAIN_TABLE", "Flow4", "TableRef"]


KEPT = 8  # structures of the last lookups
AF_INET = 2


class _Flowi4(KernelStruct):
    struct_name = "flowi4"
    oif = Field("__fl_common.flowic_oif")
    iif = Field("__fl_common.flowic_iif")
    mark = Field("__fl_common.flowic_mark")
    dscp = Field("__fl_common.flowic_dscp")
    proto = Field("__fl_common.flowic_proto")
    saddr = Field()
    daddr = Field()
    dport = Field("uli.ports.dport")
    sport = Field("uli.ports.sport")


class _NextHop(KernelStruct):
    struct_name = "fib_nh_common"
    dev = Field("nhc_dev")
    oif = Field("nhc_oif")
    family = Field("nhc_family")
    gw_family = Field("nhc_gw_family")
    gw = Field("nhc_gw.ipv4")


class _FibTable(KernelStruct):
    struct_name = "fib_table"
    tb_id = Field()


def _be32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "big"), "little")


def _be16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


class _Ring:
    # structures that are used again, the oldest first
    def __init__(self, mem: Memory, struct: type[KernelStruct]) -> None:
        self._addresses = [mem.alloc(size_of(struct.struct_name), what=struct.struct_name) for _ in range(KEPT)]

    def next(self) -> int:
        address = self._addresses.pop(0)
        self._addresses.append(address)
        return address


class TableRef:
    """A routing table by its number (``struct fib_table``)."""

    def __init__(self, net: "Net", number: int) -> None:
        self._net, self.number = net, number

    @property
    def struct_address(self) -> int:
        """Where the structure lies."""
        refs = self._net.fib.table_structs
        if self.number not in refs:
            table = _FibTable.alloc(self._net.kernel.mem)
            table.tb_id = self.number
            refs[self.number] = table.address
        return refs[self.number]


class Flow4:
    """One lookup; ``route`` is what it found."""

    __slots__ = (
        *("_address", "_nexthop", "daddr", "dport", "iif", "is_reverse", "mark", "net", "oif", "protocol", "route"),
        *("saddr", "sport", "tos"),
    )

    def __init__(
        self,
        net: "Net",
        daddr: int,
        saddr: int = 0,
        protocol: int = 0,
        sport: int = 0,
        dport: int = 0,
        *,
        oif: int = 0,
        iif: int = 0,
        tos: int = 0,
        mark: int = 0,
        is_reverse: bool = False,
    ) -> None:
        self.net, self.daddr, self.saddr, self.protocol = net, daddr, saddr, protocol
        self.sport, self.dport, self.oif, self.iif, self.tos, self.mark = sport, dport, oif, iif, tos, mark
        # asked about the way back of a packet only: no source is chosen
        self.is_reverse = is_reverse
        self.route: Route | None = None
        self._address = self._nexthop = 0

    @property
    def struct_address(self) -> int:
        """Where its ``struct flowi4`` lies."""
        if not self._address:
            self._address = _ring(self.net, _Flowi4).next()
        flow = _Flowi4(self.net.kernel.mem, self._address)
        flow.oif, flow.iif, flow.mark, flow.dscp = self.oif, self.iif, self.mark, self.tos & 0xFC
        flow.proto, flow.saddr, flow.daddr = self.protocol, _be32(self.saddr), _be32(self.daddr)
        flow.sport, flow.dport = _be16(self.sport), _be16(self.dport)
        return self._address

    @property
    def nexthop_address(self) -> int:
        """Where the ``struct fib_nh_common`` of what it found lies, 0 when it found nothing."""
        if self.route is None:
            return 0
        nexthop = _NextHop(self.net.kernel.mem, _ring(self.net, _NextHop).next())
        nexthop.dev, nexthop.oif = self.route.dev.struct_address, self.route.dev.ifindex
        nexthop.family, nexthop.gw = AF_INET, _be32(self.route.gateway)
        nexthop.gw_family = AF_INET if self.route.gateway else 0
        return nexthop.address

    def show(self, cpu: Cpu, route: "Route | None", table: int) -> None:
        """Let probes see that a table was asked."""
        self.route = route
        self.net.functions.fib_table_lookup(cpu, TableRef(self.net, table), self, None, 0)


def _ring(net: "Net", struct: type[KernelStruct]) -> _Ring:
    rings: dict[str, Any] = net.init_net.struct_rings
    if struct.struct_name not in rings:
        rings[struct.struct_name] = _Ring(net.kernel.mem, struct)
    found: _Ring = rings[struct.struct_name]
    return found


@packet_function
def fib_table_lookup(cpu: Cpu, table: TableRef, flow: Flow4, _res: Any, _flags: int) -> int:
    """Look a route up in a table: it was found already."""
    net, err = flow.net, 0
    if flow.route is not None:
        touch(cpu, "fib_lookup_good_nhc", flowi4=flow)
    else:
        err = -Errno.EAGAIN
    if net.tracepoints.watched:
        net.tracepoints.fib_table_lookup(cpu, table.number, flow, flow.nexthop_address, err)
    return err
