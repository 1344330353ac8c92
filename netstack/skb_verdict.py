"""Programs on what a TCP socket receives: sk_skb (net/core/skmsg.c, net/strparser, net/core/filter.c, v6.18).

A parser says how long messages are, a verdict where they go: to the socket's reader, nowhere, or to another socket, out
by it or to its reader. Without a parser each packet is a message. Programs see a ``struct sk_buff`` whose data is the
payload alone.

Differs: what a verdict passes on is acknowledged at once, in Linux when the reader has it.
"""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.btf.view import place
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.helper_ids import HELPER_IDS
from ebpfsim.uapi.net import EtherType
from netstack.psock import PARSER, SKB_VERDICT, STREAM_VERDICT, Psock
from netstack.skb import SkBuff
from netstack.skb_run import skb_struct
from netstack.skmsg import tcp_bpf_sendmsg
from netstack.tcp_hdr import FIN
from netstack.tcp_states import TcpState

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["HELPERS", "sk_psock_verdict_data_ready"]

SK_DROP, SK_PASS = 0, 1
BPF_F_INGRESS = 1
M32 = (1 << 32) - 1
_U32 = Struct("<I")
# skb->_sk_redir: a socket, with BPF_F_INGRESS in its lowest bit
SK_REDIR = place("sk_buff", "_sk_redir")[0]


def sk_psock_verdict_data_ready(cpu: Cpu, tp: "TcpSock", psock: Psock) -> None:
    """Take what has come from the socket's queue and let programs say where it goes."""
    received = _read_skbs(cpu, tp)
    if PARSER in psock.progs and STREAM_VERDICT in psock.progs:
        for data in received:
            _parse(cpu, tp, psock, data)
        return
    for data in received:
        _verdict(cpu, tp, psock, data)


def _read_skbs(cpu: Cpu, tp: "TcpSock") -> list[bytes]:
    # tcp_read_skb()
    received: list[bytes] = []
    while tp.receive_queue:
        segment = tp.receive_queue.popleft()
        th = segment.th
        tp.sk_rmem_alloc -= segment.truesize
        tp.copied_seq = tp.copied_seq + len(th.data) & M32
        received.append(bytes(th.data))
        segment.consume(cpu)
        if th.flags & FIN:
            tp.copied_seq = tp.copied_seq + 1 & M32
            tp.done = True
            break
    tp.net.functions.tcp_cleanup_rbuf(cpu, tp, sum(map(len, received)))
    return received


def _parse(cpu: Cpu, tp: "TcpSock", psock: Psock, data: bytes) -> None:
    # __strp_recv(): the parser is asked until it knows how long the message is
    eaten, strp = 0, psock.strp
    while eaten < len(data) and not strp.stopped:
        if strp.head:
            strp.head += data
        else:
            strp.head, strp.offset, strp.accum_len, strp.full_len = data, eaten, 0, 0
        count = len(data) - eaten
        if not strp.full_len:
            length = s32(u32(_run(cpu, tp, psock, PARSER, strp.head)[0]))
            if length < 0:
                # strp_abort_strp(): nothing of this stream is read any more
                strp.head, strp.stopped = b"", True
                return
            strp.full_len = length
        extra = strp.accum_len + count - strp.full_len
        if extra < 0 or not strp.full_len:
            strp.accum_len += count
            return
        eaten += count - extra
        head, strp.head = strp.head, b""
        _verdict(cpu, tp, psock, head, strp.offset, strp.full_len)


def _run(cpu: Cpu, tp: "TcpSock", psock: Psock, kind: AttachType, data: bytes) -> tuple[int, int, bytes]:
    # a program's answer, where it redirected to, and what it made of the data
    skb = SkBuff(data, tp.route.dev if tp.route is not None else tp.net.devices["lo"], EtherType.IP)
    mem = tp.net.kernel.mem
    with skb_struct(skb, mem, ingress=False, sk=tp.struct_address, network=True) as struct:
        mem.store(struct.address + SK_REDIR, 8, 0)
        verdict = None if kind != PARSER else ""
        ret = tp.net.sk_filter.run_prog(
            psock.progs[kind], struct.address, cpu, kind.lower, *psock.stats[kind], verdict=verdict
        )
        redir = mem.load(struct.address + SK_REDIR, 8)
        mem.store(struct.address + SK_REDIR, 8, 0)
        return ret, redir, mem.read(struct.data, struct.len)


def _verdict(cpu: Cpu, tp: "TcpSock", psock: Psock, packet: bytes, offset: int = 0, count: int | None = None) -> None:
    # sk_psock_verdict_apply(); programs see whole packets, also where a message is part of one
    kind = STREAM_VERDICT if STREAM_VERDICT in psock.progs else SKB_VERDICT
    ret, redir, packet = _run(cpu, tp, psock, kind, packet)
    data = packet[offset:] if count is None else packet[offset : offset + count]
    if ret != SK_PASS:
        return
    if not redir:
        psock.queue(data, cpu)
        return
    other: TcpSock = tp.net.tcp.structs.at(redir & ~BPF_F_INGRESS)
    target = other.psock
    # sk_psock_skb_redirect(): who closes gets nothing
    if target is None or other.state == TcpState.CLOSE or other.dead or not target.tx_enabled:
        return
    if redir & BPF_F_INGRESS:
        target.queue(data, cpu)
        return
    target.backlog.append(data)
    if len(target.backlog) == 1:
        tp.net.clock.call_in(0, lambda: _backlog(cpu, other, target))


def _backlog(cpu: Cpu, tp: "TcpSock", psock: Psock) -> None:
    # sk_psock_backlog(): sent as by a task, so the program of what is sent is asked as well
    from netstack.tcp import TcpMsg

    functions = tp.net.functions
    while psock.backlog and tp.psock is psock:
        data = psock.backlog.popleft()
        if not data:
            continue
        functions.lock_sock_nested(cpu, tp, 0)
        ret = tcp_bpf_sendmsg(cpu, tp, psock, TcpMsg(data), len(data))
        functions.release_sock(cpu, tp)
        if ret < 0:
            # sk_psock_report_error(): nothing more is sent this way
            psock.backlog.clear()
            psock.tx_enabled, tp.sk_err = False, -ret
            if tp.error_report is not None:
                tp.error_report(cpu)
    tp.net.softnet[cpu.number].settle()


def _sk_redirect(run: Run, skb: int, map_address: int, key: bytes, flags: int) -> int:
    if u32(flags) & ~BPF_F_INGRESS:
        return SK_DROP
    found = run.kernel.map_at(map_address).sock_at(key)  # type: ignore[attr-defined]
    if found is None or not found.redirect_ok:
        return SK_DROP
    run.mem.store(skb + SK_REDIR, 8, u64(found.struct_address | flags & BPF_F_INGRESS))
    return SK_PASS


def bpf_sk_redirect_map(run: Run, skb: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Send a message by, or to the reader of, the socket at an index of a sockmap: SK_PASS, or SK_DROP."""
    return _sk_redirect(run, skb, map_address, _U32.pack(u32(key)), flags)


def bpf_sk_redirect_hash(run: Run, skb: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Send a message by, or to the reader of, the socket under a key of a sockhash: SK_PASS, or SK_DROP."""
    return _sk_redirect(run, skb, map_address, run.mem.read(key, run.kernel.map_at(map_address).key_size), flags)


# struct bpf_sock_ops_kern: where the socket is, and the event
_OPS_SK, _OPS_OP = 0, 48
TCP_LISTEN_CB, ACTIVE_ESTABLISHED_CB, PASSIVE_ESTABLISHED_CB = 11, 4, 5


def _sock_map_update(run: Run, ctx: int, map_address: int, key: int, flags: int) -> int:
    # sock_map_op_okay(): only where the connection is there
    if run.mem.load(ctx + _OPS_OP, 1) not in (TCP_LISTEN_CB, ACTIVE_ESTABLISHED_CB, PASSIVE_ESTABLISHED_CB):
        return u64(-Errno.EOPNOTSUPP)
    net = run.kernel.net  # type: ignore[attr-defined]
    tp = net.tcp.structs.find(run.mem.load(ctx + _OPS_SK, 8))
    map_ = run.kernel.map_at(map_address)
    return u64(-map_.update_sock(run.mem.read(key, map_.key_size), tp.file, flags))  # type: ignore[attr-defined]


def bpf_sock_map_update(run: Run, ctx: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Put the socket of an event into a sockmap: 0, EOPNOTSUPP, or what the map says."""
    return _sock_map_update(run, ctx, map_address, key, flags)


def bpf_sock_hash_update(run: Run, ctx: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Put the socket of an event into a sockhash: 0, EOPNOTSUPP, or what the map says."""
    return _sock_map_update(run, ctx, map_address, key, flags)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_sk_redirect_map"]: bpf_sk_redirect_map,
    HELPER_IDS["bpf_sk_redirect_hash"]: bpf_sk_redirect_hash,
    HELPER_IDS["bpf_sock_map_update"]: bpf_sock_map_update,
    HELPER_IDS["bpf_sock_hash_update"]: bpf_sock_hash_update,
}
