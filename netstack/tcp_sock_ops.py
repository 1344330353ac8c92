"""Programs of control groups on TCP sockets: sock_ops (net/ipv4/tcp*.c, net/core/filter.c, v6.18)."""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu

if TYPE_CHECKING:
    from netstack.net import NetKernel
    from netstack.tcp_sock import TcpSkb, TcpSock

__all__ = ["SockOps"]

TCP_TIMEOUT_INIT_US = 1_000_000


class SockOps:
    """Calls the sock_ops programs of a socket's cgroup."""

    TIMEOUT_INIT, RWND_INIT, TCP_CONNECT_CB, ACTIVE_ESTABLISHED_CB, PASSIVE_ESTABLISHED_CB = 1, 2, 3, 4, 5
    NEEDS_ECN, BASE_RTT, RTO_CB, RETRANS_CB, STATE_CB, TCP_LISTEN_CB, RTT_CB = 6, 7, 8, 9, 10, 11, 12

    def __init__(self, kernel: "NetKernel", execute: Any) -> None:
        self.kernel = kernel

    def call(self, tp: "TcpSock", op: int, cpu: Cpu, *args: int, req: Any = None) -> int:
        """Call the programs; -1 without any."""
        return -1

    def timeout_init(self, tp: "TcpSock", cpu: Cpu, req: Any = None) -> int:
        """Return the first timeout of a SYN or SYN-ACK, in microseconds."""
        return TCP_TIMEOUT_INIT_US

    def rwnd_init(self, tp: "TcpSock", cpu: Cpu, req: Any = None) -> int:
        """Return the first window in segments, 0 for the default."""
        return 0

    def listen(self, tp: "TcpSock", cpu: Cpu) -> None:
        """Tell of a socket that begins to listen."""

    def state(self, tp: "TcpSock", new: int, cpu: Cpu) -> None:
        """Tell of a change of state."""

    def rtt(self, tp: "TcpSock", rtt_us: int, cpu: Cpu) -> None:
        """Tell of a sample of the round trip."""

    def rto(self, tp: "TcpSock", cpu: Cpu) -> None:
        """Tell of a timeout."""

    def retrans(self, tp: "TcpSock", skb: "TcpSkb", err: int, cpu: Cpu) -> None:
        """Tell of a retransmission."""
