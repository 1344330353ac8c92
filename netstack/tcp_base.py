"""What the rooms of TCP share: time, and security hooks that are asked when somebody has a program there."""

from typing import TYPE_CHECKING, Any

from ebpfsim.cpu import Cpu
from ebpfsim.isa.alu import s32, u32
from tracing.functions import word

if TYPE_CHECKING:
    from netstack.net import Net
    from netstack.tcp_sock import TcpSock

__all__ = ["mstamp_refresh", "security"]


# hooks that have another name than their functions (tracing/lsm.py)
HOOKS = {"sock_rcv_skb": "socket_sock_rcv_skb"}


def mstamp_refresh(tp: "TcpSock", cpu: Cpu) -> None:
    """Take the time, in microseconds (``tcp_mstamp_refresh``)."""
    tp.tcp_mstamp = cpu.now_ns // 1000


def security(cpu: Cpu, net: "Net", name: str, *objects: Any) -> int:
    """Ask ``security_NAME`` about objects, whose structures are made only when somebody looks."""
    functions = net.functions
    if not functions.observed(f"security_{name}", f"bpf_lsm_{HOOKS.get(name, name)}"):
        return 0
    return s32(u32(getattr(functions, f"security_{name}")(cpu, *map(word, objects))))
