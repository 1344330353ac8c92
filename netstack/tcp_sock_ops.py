"""Programs of control groups on TCP sockets: sock_ops (``tcp_call_bpf``, net/ipv4/tcp*.c, net/core/filter.c, v6.18).

Programs see ``struct bpf_sock_ops_kern`` with the socket's structure behind it, and answer by ``reply``. Some events
are told always, others when a program has asked for them (``bpf_sock_ops_cb_flags_set``).

Left out: options that programs read from or write into headers (HDR_OPT), time stamps.
"""

from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.helpers.time import TICK_NS
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS

if TYPE_CHECKING:
    from netstack.net import NetKernel
    from netstack.tcp_sock import TcpSkb, TcpSock

__all__ = ["HELPERS", "SockOps"]

TCP_TIMEOUT_INIT_US, TCP_RTO_MAX_US = 1_000_000, 120_000_000
TICK_US = TICK_NS // 1000
# BPF_SOCK_OPS_*_CB_FLAG of include/uapi/linux/bpf.h
RTO_FLAG, RETRANS_FLAG, STATE_FLAG, RTT_FLAG, ALL_FLAGS = 1, 2, 4, 8, 0x7F
HEADER_FLAGS = 0x70  # those of header options
# struct bpf_sock_ops_kern: sk, args, syn_skb, skb, skb_data_end, op, is_fullsock, is_locked_tcp_sock,
# remaining_opt_len, temp
_KERN = Struct("<Q4IQQQ4B4xQ")
_REPLY, _SK, _IS_FULLSOCK = 8, 0, 49


class SockOps:
    """Calls the sock_ops programs of a socket's cgroup."""

    TIMEOUT_INIT, RWND_INIT, TCP_CONNECT_CB, ACTIVE_ESTABLISHED_CB, PASSIVE_ESTABLISHED_CB = 1, 2, 3, 4, 5
    NEEDS_ECN, BASE_RTT, RTO_CB, RETRANS_CB, STATE_CB, TCP_LISTEN_CB, RTT_CB = 6, 7, 8, 9, 10, 11, 12

    def __init__(self, kernel: "NetKernel", _execute: Any) -> None:
        self.kernel = kernel

    def call(self, tp: "TcpSock", op: int, cpu: Cpu, *args: int, req: Any = None) -> int:
        """Call the programs and return what they reply, -1 when one refuses or there is none."""
        if AttachType.CGROUP_SOCK_OPS not in tp.cgroup.effective:
            return -1
        mem = self.kernel.mem
        sock, full = (tp, 1) if req is None else (req, 0)
        words = [u32(arg) for arg in args] + [0] * (4 - len(args))
        ctx = mem.alloc(_KERN.size)
        try:
            mem.write(ctx, _KERN.pack(sock.struct_address, *words, 0, 0, 0, op, full, full, 0, 0))
            err = tp.net.cgroup_bpf.run_filter_sock_ops(tp, ctx, cpu)
            return -1 if err else s32(mem.load(ctx + _REPLY, 4))
        finally:
            mem.free(ctx)

    def timeout_init(self, tp: "TcpSock", cpu: Cpu, req: Any = None) -> int:
        """Return the first timeout of a SYN or SYN-ACK, in microseconds; programs say it in jiffies."""
        ticks = self.call(tp, self.TIMEOUT_INIT, cpu, req=req)
        return min(ticks * TICK_US, TCP_RTO_MAX_US) if ticks > 0 else TCP_TIMEOUT_INIT_US

    def rwnd_init(self, tp: "TcpSock", cpu: Cpu, req: Any = None) -> int:
        """Return the first window in segments, 0 for the default."""
        return max(0, self.call(tp, self.RWND_INIT, cpu, req=req))

    def needs_ecn(self, tp: "TcpSock", cpu: Cpu, req: Any = None) -> bool:
        """Whether programs want ECN for a connection."""
        return self.call(tp, self.NEEDS_ECN, cpu, req=req) == 1

    def listen(self, tp: "TcpSock", cpu: Cpu) -> None:
        """Tell of a socket that begins to listen."""
        self.call(tp, self.TCP_LISTEN_CB, cpu)

    def state(self, tp: "TcpSock", new: int, cpu: Cpu) -> None:
        """Tell of a change of state, before it happens."""
        if tp.sock_ops_cb_flags & STATE_FLAG:
            self.call(tp, self.STATE_CB, cpu, tp.state, new)

    def rtt(self, tp: "TcpSock", rtt_us: int, cpu: Cpu) -> None:
        """Tell of a sample of the round trip."""
        if tp.sock_ops_cb_flags & RTT_FLAG:
            self.call(tp, self.RTT_CB, cpu, rtt_us, tp.srtt_us)

    def rto(self, tp: "TcpSock", expired: bool, cpu: Cpu) -> None:
        """Tell of a timeout."""
        if tp.sock_ops_cb_flags & RTO_FLAG:
            self.call(tp, self.RTO_CB, cpu, tp.retransmits, -(-tp.rto_us // TICK_US), int(expired))

    def retrans(self, tp: "TcpSock", skb: "TcpSkb", err: int, cpu: Cpu) -> None:
        """Tell of a retransmission."""
        if tp.sock_ops_cb_flags & RETRANS_FLAG:
            self.call(tp, self.RETRANS_CB, cpu, skb.seq, 1, err)


def _sock_of(run: Run, address: int) -> Any:
    net = run.kernel.net  # type: ignore[attr-defined]
    return net.tcp.structs.find(address)


def bpf_sock_ops_cb_flags_set(run: Run, ctx: int, argval: int, _r3: int, _r4: int, _r5: int) -> int:
    """Say which events to tell; return those that there are not, or EINVAL without a full socket."""
    mem = run.mem
    if not mem.load(ctx + _IS_FULLSOCK, 1):
        return u64(-Errno.EINVAL)
    tp = _sock_of(run, mem.load(ctx + _SK, 8))
    flags = s32(u32(argval))
    if flags & HEADER_FLAGS:
        raise NotModelled("header options of sock_ops programs", "net/ipv4/tcp_output.c")
    tp.sock_ops_cb_flags = flags & ALL_FLAGS
    tp.refresh()
    return u64(flags & ~ALL_FLAGS)


def bpf_setsockopt(run: Run, first: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Set an option of a TCP socket: 0 or -errno (``_bpf_setsockopt``)."""
    from netstack.sockopt import set_tcp_option

    tp = _sock_of(run, _sk_argument(run, first))
    if tp is None:
        raise NotModelled("bpf_setsockopt() on sockets other than those of TCP", "net/core/filter.c")
    value = run.mem.read(optval, s32(u32(optlen)))
    result = set_tcp_option(run.cpu, tp, s32(u32(level)), s32(u32(optname)), bytes(value))
    tp.refresh()
    return u64(result)


def bpf_getsockopt(run: Run, first: int, level: int, optname: int, optval: int, optlen: int) -> int:
    """Read an option of a TCP socket: 0 or -errno (``_bpf_getsockopt``)."""
    from netstack.sockopt import get_tcp_option

    tp = _sock_of(run, _sk_argument(run, first))
    if tp is None:
        raise NotModelled("bpf_getsockopt() on sockets other than those of TCP", "net/core/filter.c")
    size = s32(u32(optlen))
    found = get_tcp_option(tp, s32(u32(level)), s32(u32(optname)), run.cpu)
    if isinstance(found, int):
        run.mem.fill(optval, size)
        return u64(found)
    run.mem.write(optval, found[:size].ljust(size, b"\0"))
    return 0


def _sk_argument(run: Run, first: int) -> int:
    # sock_ops and sock_addr have a context whose first member is the socket, struct_ops the socket itself
    if run.prog.type in (ProgType.SOCK_OPS, ProgType.CGROUP_SOCK_ADDR):
        return run.mem.load(first, 8)
    return first


def bpf_tcp_send_ack(run: Run, sk: int, rcv_nxt: int, _r3: int, _r4: int, _r5: int) -> int:
    """Send an ACK up to a number, from a congestion control."""
    tp = _sock_of(run, sk)
    tp.net.functions.__dict__["__tcp_send_ack"](run.cpu, tp, u32(rcv_nxt), 0)
    return 0


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_sock_ops_cb_flags_set"]: bpf_sock_ops_cb_flags_set,
    HELPER_IDS["bpf_setsockopt"]: bpf_setsockopt,
    HELPER_IDS["bpf_getsockopt"]: bpf_getsockopt,
    HELPER_IDS["bpf_tcp_send_ack"]: bpf_tcp_send_ack,
}
