"""What a TCP socket in a sockmap has beside itself (``struct sk_psock``, net/core/skmsg.c, net/core/sock_map.c, v6.18).

A socket that joins a map takes over the map's programs; it keeps them until it has left all maps. ``netstack.skmsg``
asks the program of what it sends, ``netstack.skb_verdict`` those of what it receives.

Differs: work that Linux leaves to a work queue is done as soon as the CPU has come to the end of what it does, or,
where data goes to a reader, at once.
"""

from collections import deque
from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType
from hooks.link import HookStats
from hooks.sockmap import hook_of

if TYPE_CHECKING:
    from netstack.tcp_sock import TcpSock

__all__ = ["Psock", "sock_map_link", "sock_map_unlink"]

MSG, PARSER = AttachType.SK_MSG_VERDICT, AttachType.SK_SKB_STREAM_PARSER
STREAM_VERDICT, SKB_VERDICT = AttachType.SK_SKB_STREAM_VERDICT, AttachType.SK_SKB_VERDICT
# what a map brings, and of which of these a socket can have one from another map already
CONFLICTS = (
    (MSG, MSG), (PARSER, PARSER), (SKB_VERDICT, SKB_VERDICT), (SKB_VERDICT, STREAM_VERDICT),
    (STREAM_VERDICT, SKB_VERDICT), (STREAM_VERDICT, STREAM_VERDICT),
)  # fmt: skip
EVAL_NONE, EVAL_PASS, EVAL_DROP, EVAL_REDIRECT = range(4)


class Strp:
    """A message that is not complete (``struct strp_msg``): the packets that it is in, and where in them.

    ``accum_len`` bytes of it are here, of ``full_len``, which is 0 before the parser knows; after an error of the
    parser the stream is ``stopped``.
    """

    __slots__ = ("accum_len", "full_len", "head", "offset", "stopped")

    def __init__(self) -> None:
        self.head, self.stopped = b"", False
        self.offset = self.accum_len = self.full_len = 0


class Psock:
    """The programs of a socket, messages for its reader, and what its sender waits with."""

    def __init__(self, tp: "TcpSock") -> None:
        self.tp = tp
        self.progs: dict[AttachType, Prog] = {}
        # counters and names of links, by attach type, as the map had them
        self.stats: dict[AttachType, tuple[HookStats, str]] = {}
        self.places = 0
        # messages that were redirected here, or passed by a verdict
        self.ingress: deque[bytes] = deque()
        # of the sender (netstack.skmsg): what the program decided, for how many bytes, and what it wants more of
        self.cork: Any = None
        self.cork_bytes = self.apply_bytes = 0
        self.eval = EVAL_NONE
        self.redirect: tuple[TcpSock, bool] | None = None
        self.strp = Strp()
        # what verdicts of other sockets want to be sent by this one
        self.backlog: deque[bytes] = deque()
        self.tx_enabled = True

    @property
    def has_verdict(self) -> bool:
        """Whether a program decides about what is received; a parser alone does nothing."""
        return STREAM_VERDICT in self.progs or SKB_VERDICT in self.progs

    def queue(self, data: bytes, cpu: Cpu) -> None:
        """Let the reader have a message (``sk_psock_queue_msg``)."""
        if data:
            self.ingress.append(data)
            if self.tp.data_ready is not None:
                self.tp.data_ready(cpu)

    def take(self, size: int) -> list[bytes]:
        """Return what the reader gets of messages (``sk_msg_recvmsg``)."""
        parts: list[bytes] = []
        while self.ingress and size:
            data = self.ingress.popleft()
            if len(data) > size:
                self.ingress.appendleft(data[size:])
                data = data[:size]
            parts.append(data)
            size -= len(data)
        return parts

    def drop(self) -> None:
        """Let go of everything: the socket is in no map any more."""
        for kind in sorted(self.progs):
            self.progs.pop(kind).put()
        self.ingress.clear()
        self.backlog.clear()
        self.cork = self.redirect = None


def sock_map_link(tp: "TcpSock", map_: Any) -> int:
    """Let a socket join a map: 0, EBUSY with a program of its own."""
    psock, brings = tp.psock, map_.progs
    if psock is not None and any(kind in brings and other in psock.progs for kind, other in CONFLICTS):
        return Errno.EBUSY
    if psock is None:
        psock = tp.psock = Psock(tp)
    for kind, prog in brings.items():
        old = psock.progs.get(kind)
        prog.get()
        psock.progs[kind] = prog
        psock.stats[kind] = hook_of(map_, kind)
        if old is not None:
            old.put()
    psock.places += 1
    return 0


def sock_map_unlink(tp: "TcpSock") -> None:
    """Let a socket leave a place in a map (``sock_map_unref``)."""
    psock = tp.psock
    if psock is None:
        return
    psock.places -= 1
    if not psock.places:
        tp.psock = None
        psock.drop()
