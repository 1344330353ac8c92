"""Programs on what a TCP socket sends: sk_msg (net/ipv4/tcp_bpf.c, net/core/filter.c, v6.18).

A message is what one sendmsg() gives, and more where a program waits for it (``bpf_msg_cork_bytes``). The program sees
``struct sk_msg``; its verdict is for the whole message or some bytes (``bpf_msg_apply_bytes``), after which it is asked
again. Messages may go to another socket: out by it, or to its reader.

Differs: the bytes of one sendmsg() are one piece of memory, where Linux begins another one at the end of a page
fragment of 32 KiB; bytes that ``bpf_msg_push_data`` inserts are zero.
"""

from struct import Struct
from typing import TYPE_CHECKING, Any

from ebpfsim.btf.view import place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import s32, u32, u64
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.psock import EVAL_DROP, EVAL_NONE, EVAL_PASS, EVAL_REDIRECT, MSG, Psock
from netstack.tcp_states import TcpState

if TYPE_CHECKING:
    from netstack.tcp import TcpMsg
    from netstack.tcp_sock import TcpSock

__all__ = ["HELPERS", "tcp_bpf_recvmsg", "tcp_bpf_sendmsg"]

SK_DROP, SK_PASS = 0, 1
BPF_F_INGRESS = 1
MSG_MORE = 0x8000
# what one piece of a message holds at most: MAX_MSG_FRAGS page fragments
CHUNK = 17 * 32768
_U32 = Struct("<I")
# per CPU: the message that the program under way is asked about
_RUNNING = "sk_msg"


class SkMsg:
    """``struct sk_msg``: pieces of data; while a program runs, the structure and the pieces lie in RAM."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.apply_bytes = self.cork_bytes = 0
        self.address = 0
        self._mem: Memory | None = None
        self._blocks: list[tuple[int, int]] = []

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return sum(map(len, self.pieces))

    def cut(self, count: int) -> bytes:
        """Take bytes from its beginning."""
        taken = b""
        while len(taken) < count:
            taken += self.cut_piece(min(count - len(taken), len(self.pieces[0])))
        return taken

    def cut_piece(self, count: int) -> bytes:
        """Take bytes from its first piece."""
        data, rest = self.pieces[0][:count], self.pieces[0][count:]
        self.pieces[:1] = [rest] if rest else []
        return data

    # in RAM

    def show(self, mem: Memory, sk: int) -> int:
        """Make the structure and return where it is."""
        self._mem, self.address = mem, mem.alloc(size_of("sk_msg"), what="struct sk_msg")
        self._blocks = [self._block(piece) for piece in self.pieces]
        self._store("sk", sk)
        self._store("sk_redir", 0)
        self.compute_data_pointers()
        return self.address

    def hide(self) -> None:
        """Take back what programs did to it, and free the structure."""
        mem = self._mem
        assert mem is not None
        self.pieces = [mem.read(address, size) for address, size in self._blocks]
        for address, _ in self._blocks:
            mem.free(address)
        self.apply_bytes, self.cork_bytes = self._load("apply_bytes"), self._load("cork_bytes")
        mem.free(self.address)
        self._blocks = []

    def _block(self, data: bytes) -> tuple[int, int]:
        assert self._mem is not None
        address = self._mem.alloc(max(len(data), 1), what="page of a message")
        self._mem.write(address, data)
        return address, len(data)

    def _store(self, name: str, value: int) -> None:
        assert self._mem is not None
        offset, size = place("sk_msg", name)
        self._mem.store(self.address + offset, size, value)

    def _load(self, name: str) -> int:
        assert self._mem is not None
        offset, size = place("sk_msg", name)
        return self._mem.load(self.address + offset, size)

    def compute_data_pointers(self, piece: int = 0, offset: int = 0, size: int | None = None) -> None:
        """Show a program a piece, or part of it (``sk_msg_compute_data_pointers``)."""
        address, length = self._blocks[piece] if piece < len(self._blocks) else (0, 0)
        self._store("data", address + offset)
        self._store("data_end", address + offset + (length - offset if size is None else size))
        self._store("sg.size", sum(size for _, size in self._blocks))

    def find(self, start: int) -> tuple[int, int]:
        """Return the piece with the byte at ``start``, the last one if there is none, and where it begins."""
        offset = 0
        for number, (_, size) in enumerate(self._blocks):
            if start < offset + size or number == len(self._blocks) - 1:
                return number, offset
            offset += size
        return 0, 0

    def blocks(self) -> list[bytes]:
        """Return what the pieces hold now."""
        assert self._mem is not None
        return [self._mem.read(address, size) for address, size in self._blocks]

    def replace(self, pieces: list[bytes]) -> None:
        """Let other pieces be the message, while a program runs."""
        assert self._mem is not None
        old, self._blocks = self._blocks, [self._block(piece) for piece in pieces if piece]
        for address, _ in old:
            self._mem.free(address)


# sending ----------------------------------------------------------------------------------------------------------


def tcp_bpf_sendmsg(cpu: Cpu, tp: "TcpSock", psock: Psock, msg: "TcpMsg", size: int) -> int:
    """Send bytes of a task as far as the program lets them: how many were taken, or -errno."""
    copied = err = 0
    flags = msg.flags
    while copied < size and not err:
        if tp.sk_err:
            err, tp.sk_err = -tp.sk_err, 0
            break
        message: SkMsg = psock.cork or SkMsg()
        part = msg.data[copied : copied + CHUNK]
        # what comes later lies behind what is there, in one piece
        message.pieces[-1:] = [b"".join([*message.pieces[-1:], part])]
        copied += len(part)
        if psock.cork_bytes:
            psock.cork_bytes = max(0, psock.cork_bytes - size)
            if psock.cork_bytes:
                continue
            # all that it waited for is here: the program is asked again
            psock.eval = EVAL_NONE
        err, taken_back = _send_verdict(cpu, tp, psock, message, msg, flags)
        copied -= taken_back
    return copied if copied > 0 else err


def _send_verdict(cpu: Cpu, tp: "TcpSock", psock: Psock, message: SkMsg, msg: "TcpMsg", flags: int) -> tuple[int, int]:
    # tcp_bpf_send_verdict(): an errno, and how many bytes the sender is not told of
    while True:
        delta = 0
        if psock.eval == EVAL_NONE:
            delta = message.size
            psock.eval = _msg_verdict(cpu, tp, psock, message)
            delta -= message.size
        if message.cork_bytes > message.size:
            psock.cork_bytes = message.cork_bytes - message.size
            psock.cork = message
            return 0, 0
        tosend = message.size
        if psock.apply_bytes and psock.apply_bytes < tosend:
            tosend = psock.apply_bytes
        psock.apply_bytes = max(0, psock.apply_bytes - tosend)
        if psock.eval == EVAL_PASS:
            psock.cork = None
            err = _push(cpu, tp, message, tosend, flags, msg)
            if err:
                return err, message.size
        elif psock.eval == EVAL_REDIRECT:
            functions = tp.net.functions
            functions.release_sock(cpu, tp)
            err = _redirect(cpu, psock, message, tosend, flags)
            functions.lock_sock_nested(cpu, tp, 0)
            if err:
                return err, message.size
        else:
            # the verdict stays: what is sent later is dropped, too, and nobody is asked
            message.cut(tosend)
            psock.cork = None
            return -Errno.EACCES, tosend + delta
        if not psock.apply_bytes:
            psock.eval, psock.redirect = EVAL_NONE, None
        if not message.size:
            return 0, 0


def _msg_verdict(cpu: Cpu, tp: "TcpSock", psock: Psock, message: SkMsg) -> int:
    # sk_psock_msg_verdict()
    prog = psock.progs.get(MSG)
    if prog is None:
        return EVAL_PASS
    net = tp.net
    mem = net.kernel.mem
    address = message.show(mem, tp.struct_address)
    saved, cpu.scratch[_RUNNING] = cpu.scratch.get(_RUNNING), message
    try:
        verdict = net.sk_filter.run_prog(prog, address, cpu, "sk_msg", *psock.stats[MSG])
        target = mem.load(address + place("sk_msg", "sk_redir")[0], 8)
        ingress = bool(mem.load(address + place("sk_msg", "flags")[0], 4) & BPF_F_INGRESS)
    finally:
        cpu.scratch[_RUNNING] = saved
        message.hide()
    psock.apply_bytes = message.apply_bytes
    if verdict != SK_PASS:
        return EVAL_DROP
    if not target:
        return EVAL_PASS
    psock.redirect = net.tcp.structs.at(target), ingress
    return EVAL_REDIRECT


def _push(cpu: Cpu, tp: "TcpSock", message: SkMsg, count: int, flags: int, msg: Any) -> int:
    # tcp_bpf_push(): the socket's own way of sending
    from netstack.tcp import TcpMsg

    wait = msg.wait if msg is not None else None
    while count:
        # piece by piece, as Linux does: each may become a segment of its own
        piece = message.pieces[0]
        part = TcpMsg(piece[:count], address=msg.struct_address if msg is not None else 0, wait=wait)
        part.flags = flags | (MSG_MORE if count < len(piece) else 0)
        ret = s32(u32(tp.net.functions.tcp_sendmsg_locked(cpu, tp, part, len(part.data))))
        if ret <= 0:
            return ret or -Errno.EAGAIN
        message.cut_piece(ret)
        count -= ret
    return 0


def _redirect(cpu: Cpu, psock: Psock, message: SkMsg, count: int, flags: int) -> int:
    # tcp_bpf_sendmsg_redir(), with the sender's socket unlocked
    assert psock.redirect is not None
    target, ingress = psock.redirect
    psock.cork = None
    other = target.psock
    if other is None:
        return -Errno.EPIPE
    if ingress:
        other.queue(message.cut(count), cpu)
        return 0
    if target.state not in (TcpState.ESTABLISHED, TcpState.CLOSE_WAIT):
        message.cut(count)
        return -Errno.EPIPE
    functions = target.net.functions
    functions.lock_sock_nested(cpu, target, 0)
    err = _push(cpu, target, message, count, flags, None)
    functions.release_sock(cpu, target)
    return err


def tcp_bpf_recvmsg(cpu: Cpu, tp: "TcpSock", psock: Psock, msg: "TcpMsg", size: int, flags: int) -> int:
    """Receive messages that were redirected here, or else what the connection has (``tcp_bpf_recvmsg``)."""
    while True:
        parts = psock.take(size)
        if parts:
            msg.received += parts
            return sum(map(len, parts))
        if tp.receive_queue or tp.sk_err or tp.sk_shutdown or tp.state == TcpState.CLOSE:
            return s32(u32(tp.net.functions.tcp_recvmsg(cpu, tp, msg, size, flags)))
        if msg.wait is None:
            return -Errno.EAGAIN
        err = msg.wait("read")
        if err:
            return err


# helpers ----------------------------------------------------------------------------------------------------------


def _running(run: Run) -> SkMsg:
    message = run.cpu.scratch[_RUNNING]
    assert isinstance(message, SkMsg)
    return message


def bpf_msg_apply_bytes(run: Run, ctx: int, count: int, _r3: int, _r4: int, _r5: int) -> int:
    """Let the verdict be for so many bytes."""
    run.mem.store(ctx + place("sk_msg", "apply_bytes")[0], 4, u32(count))
    return 0


def bpf_msg_cork_bytes(run: Run, ctx: int, count: int, _r3: int, _r4: int, _r5: int) -> int:
    """Be asked again once there are so many bytes."""
    run.mem.store(ctx + place("sk_msg", "cork_bytes")[0], 4, u32(count))
    return 0


def bpf_msg_pull_data(run: Run, _ctx: int, start: int, end: int, flags: int, _r5: int) -> int:
    """Show the program the bytes from ``start`` to ``end`` in one piece: EINVAL."""
    message, start, end = _running(run), u32(start), u32(end)
    if flags or end <= start:
        return u64(-Errno.EINVAL)
    number, offset = message.find(start)
    pieces = message.blocks()
    if start >= offset + len(pieces[number]) or end > sum(map(len, pieces)):
        return u64(-Errno.EINVAL)
    last, _ = message.find(end - 1)
    if last != number:
        joined = b"".join(pieces[number : last + 1])
        message.replace([*pieces[:number], joined, *pieces[last + 1 :]])
    message.compute_data_pointers(number, start - offset, end - start)
    return 0


def bpf_msg_push_data(run: Run, _ctx: int, start: int, count: int, flags: int, _r5: int) -> int:
    """Insert zeroes: EINVAL behind the end, ENOMEM when the size runs over."""
    message, start, count = _running(run), u32(start), u32(count)
    if flags:
        return u64(-Errno.EINVAL)
    if not count:
        return 0
    number, offset = message.find(start)
    pieces = message.blocks()
    if start > offset + len(pieces[number]):
        return u64(-Errno.EINVAL)
    if count > CHUNK:
        return u64(-Errno.ENOMEM)
    front, back = pieces[number][: start - offset], pieces[number][start - offset :]
    message.replace([*pieces[:number], front, bytes(count), back, *pieces[number + 1 :]])
    message.compute_data_pointers()
    return 0


def bpf_msg_pop_data(run: Run, _ctx: int, start: int, count: int, flags: int, _r5: int) -> int:
    """Remove bytes: EINVAL past the end."""
    message, start, count = _running(run), u32(start), u32(count)
    if flags:
        return u64(-Errno.EINVAL)
    if not count:
        return 0
    pieces = message.blocks()
    number, offset = message.find(start)
    if start >= offset + len(pieces[number]) or start + count > sum(map(len, pieces)):
        return u64(-Errno.EINVAL)
    left, kept = count, list(pieces)
    at = start - offset
    while left:
        gone = min(left, len(kept[number]) - at)
        front, back = kept[number][:at], kept[number][at + gone :]
        kept[number : number + 1] = [part for part in (front, back) if part]
        number += bool(front)
        at, left = 0, left - gone
    message.replace(kept)
    message.compute_data_pointers()
    return 0


def _msg_redirect(run: Run, ctx: int, map_address: int, key: bytes, flags: int) -> int:
    if u32(flags) & ~BPF_F_INGRESS:
        return SK_DROP
    found = run.kernel.map_at(map_address).sock_at(key)  # type: ignore[attr-defined]
    if found is None or not found.redirect_ok or (not flags & BPF_F_INGRESS and not found.is_tcp):
        return SK_DROP
    run.mem.store(ctx + place("sk_msg", "flags")[0], 4, u32(flags))
    run.mem.store(ctx + place("sk_msg", "sk_redir")[0], 8, found.struct_address)
    return SK_PASS


def bpf_msg_redirect_map(run: Run, ctx: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Send the message by, or to the reader of, the socket at an index of a sockmap: SK_PASS, or SK_DROP."""
    return _msg_redirect(run, ctx, map_address, _U32.pack(u32(key)), flags)


def bpf_msg_redirect_hash(run: Run, ctx: int, map_address: int, key: int, flags: int, _r5: int) -> int:
    """Send the message by, or to the reader of, the socket under a key of a sockhash: SK_PASS, or SK_DROP."""
    size = run.kernel.map_at(map_address).key_size
    return _msg_redirect(run, ctx, map_address, run.mem.read(key, size), flags)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_msg_apply_bytes"]: bpf_msg_apply_bytes,
    HELPER_IDS["bpf_msg_cork_bytes"]: bpf_msg_cork_bytes,
    HELPER_IDS["bpf_msg_pull_data"]: bpf_msg_pull_data,
    HELPER_IDS["bpf_msg_push_data"]: bpf_msg_push_data,
    HELPER_IDS["bpf_msg_pop_data"]: bpf_msg_pop_data,
    HELPER_IDS["bpf_msg_redirect_map"]: bpf_msg_redirect_map,
    HELPER_IDS["bpf_msg_redirect_hash"]: bpf_msg_redirect_hash,
}
