"""``struct msghdr``: what a task sends or where it receives, with control messages (net/socket.c, v6.18).

Functions of the kernel get the address of the structure; ``message_at`` finds the rest by it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from struct import Struct
from typing import Any

from ebpfsim.btf.view import Field, KernelStruct, place, size_of
from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.memory.user import UserFault, UserMemory
from tracing.fs import task_of
from tracing.functions import kernel_function
from tracing.read_write import IovIter

__all__ = [
    "MSG_CMSG_CLOEXEC",
    "MSG_CTRUNC",
    "MSG_DONTWAIT",
    "MSG_EOR",
    "MSG_ERRQUEUE",
    "MSG_NOSIGNAL",
    "MSG_OOB",
    "MSG_PEEK",
    "MSG_TRUNC",
    "MSG_WAITALL",
    "MSG_WAITFORONE",
    "Control",
    "Message",
    "copied_to_user",
    "message",
    "message_at",
    "put_cmsg_to",
]  # fmt: skip

# include/linux/socket.h
MSG_OOB, MSG_PEEK, MSG_CTRUNC, MSG_TRUNC, MSG_DONTWAIT, MSG_EOR, MSG_WAITALL = 1, 2, 8, 0x20, 0x40, 0x80, 0x100
MSG_CONFIRM, MSG_ERRQUEUE, MSG_NOSIGNAL, MSG_MORE, MSG_WAITFORONE = 0x800, 0x2000, 0x4000, 0x8000, 0x10000
MSG_CMSG_CLOEXEC = 0x4000_0000
_CMSG = Struct("<Qii")
_ITER = place("msghdr", "msg_iter")[0]
# (level, type, data) of a control message
Control = tuple[int, int, bytes]


class Message(KernelStruct):
    """``struct msghdr`` with the memory of the task that bytes come from or go to."""

    __slots__ = ("control", "iter", "room", "scm", "written")
    struct_name = "msghdr"
    msg_name = Field()
    msg_namelen = Field()
    msg_flags = Field()
    msg_controllen = Field()

    # bytes that come from or go to the task
    iter: IovIter
    # control messages that the task sent; where those that it receives go, and how many bytes were written there
    control: list[Control]
    room: tuple[int, int]
    written: int
    # what AF_UNIX sends besides (struct scm_cookie)
    scm: Any

    @property
    def user(self) -> UserMemory:
        """The memory of the task."""
        return self.iter.user

    @property
    def count(self) -> int:
        """How many bytes there are, or there is room for."""
        return self.iter.count

    def take(self, size: int) -> bytes | None:
        """Return bytes that the task sends, None where its memory cannot be read (EFAULT)."""
        data = self.iter.get(size)
        return data if len(data) == size else None

    def put(self, data: bytes) -> bool:
        """Give bytes to the task; False where its memory cannot be written (EFAULT)."""
        return self.iter.put(data) == len(data)


@contextmanager
def message(k: Any, cpu: Cpu, pieces: Sequence[tuple[int, int]], flags: int = 0) -> Iterator[Message]:
    """Return a message of pieces of the current task's memory, for the time of a call."""
    user = task_of(k, cpu).user
    assert user is not None
    msg = Message.alloc(k.mem)
    msg.iter = IovIter(k.mem, msg.address + _ITER)
    msg.iter.user, msg.iter.pieces = user, list(pieces)
    msg.iter.count, msg.iter.iter_type = sum(size for _, size in pieces), int(len(pieces) != 1)
    # include/uapi/linux/uio.h: one piece lies in the iterator itself
    if len(pieces) == 1:
        k.mem.store(msg.address + place("msghdr", "msg_iter.__ubuf_iovec.iov_base")[0], 8, pieces[0][0])
    msg.control, msg.room, msg.written, msg.scm = [], (0, 0), 0, None
    msg.msg_flags = flags
    k.walks[msg.address] = msg
    try:
        yield msg
    finally:
        del k.walks[msg.address]
        msg.free()


def message_at(k: Any, address: int) -> Message:
    """Return the message whose ``struct msghdr`` lies at an address."""
    found = k.walks[address]
    assert isinstance(found, Message)
    return found


@contextmanager
def storage(k: Any) -> Iterator[int]:
    """Return room for a ``struct sockaddr_storage`` on the kernel's stack."""
    address = k.mem.alloc(size_of("__kernel_sockaddr_storage"))
    try:
        yield address
    finally:
        k.mem.free(address)


def parse_control(data: bytes) -> list[Control] | None:
    """Return the control messages that a task sends, None when they are malformed (``CMSG_OK``)."""
    found, at = [], 0
    while at + _CMSG.size <= len(data):
        length, level, kind = _CMSG.unpack_from(data, at)
        if not _CMSG.size <= length <= len(data) - at:
            return None
        found.append((level, kind, data[at + _CMSG.size : at + length]))
        at += length + 7 & ~7
    return found


def put_cmsg_to(k: Any, cpu: Cpu, msg: Message, level: int, kind: int, data: bytes) -> None:
    """Give a control message to the task."""
    room = k.mem.alloc(max(len(data), 1))
    k.mem.write(room, data)
    k.functions.put_cmsg(cpu, msg.address, level, kind, len(data), room)
    k.mem.free(room)


def copied_to_user(k: Any, cpu: Cpu, skb: int, size: int) -> None:
    """Tell that bytes of a packet are copied to the task."""
    k.functions.skb_copy_datagram_iter(cpu, skb, 0, 0, size)
    if k.net.tracepoints.watched:
        k.net.tracepoints.skb_copy_datagram_iovec(cpu, skb, size)


@kernel_function
def put_cmsg(k: Any, _cpu: Cpu, msg: int, level: int, type: int, len: int, data: int) -> int:  # noqa: A002
    """Write a control message as far as there is room: MSG_CTRUNC, EFAULT."""
    to = message_at(k, msg)
    start, size = to.room
    left = size - to.written
    if not start or left < _CMSG.size:
        to.msg_flags |= MSG_CTRUNC
        return 0
    length = _CMSG.size + len
    if left < length:
        to.msg_flags |= MSG_CTRUNC
        length = left
    words = _CMSG.pack(length, level & 0xFFFF_FFFF, type & 0xFFFF_FFFF) + k.mem.read(data, length - _CMSG.size)
    try:
        to.user.write(start + to.written, words)
    except UserFault:
        return -Errno.EFAULT
    to.written += min(length + 7 & ~7, left)
    return 0
