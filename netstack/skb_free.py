"""The end of packets: ``consume_skb`` and ``kfree_skb_reason`` (net/core/skbuff.c, v6.18).

Differs: the location that the tracepoints tell is the beginning of the function that let the packet go.
"""

from typing import Any

from ebpfsim.cpu import Cpu
from netstack.skb import SkBuff
from tracing.functions import packet_function

__all__: list[str] = []


@packet_function
def consume_skb(cpu: Cpu, skb: SkBuff) -> None:
    """A packet has served its purpose."""
    net = skb.dev.net
    if net.tracepoints.watched:
        net.tracepoints.consume_skb(cpu, skb, skb.where)
    _release(cpu, skb, 0)


@packet_function
def sk_skb_reason_drop(cpu: Cpu, sk: Any, skb: SkBuff, reason: int) -> None:
    """A packet is dropped."""
    net = skb.dev.net
    if net.tracepoints.watched:
        net.tracepoints.kfree_skb(cpu, skb, skb.where, int(reason), sk)
    _release(cpu, skb, int(reason))


def _release(cpu: Cpu, skb: SkBuff, reason: int) -> None:
    functions = skb.dev.net.functions
    if functions.watched:
        functions.skb_release_head_state(cpu, skb)
        functions.skb_release_data(cpu, skb, reason)


@packet_function
def skb_release_head_state(cpu: Cpu, skb: SkBuff) -> None:
    """Let go what a packet holds; its sender gets its memory back."""
    if skb.sk is not None:
        getattr(skb.dev.net.functions, getattr(skb, "destructor", "sock_wfree"))(cpu, skb)
        skb.sk = None


@packet_function
def sock_wfree(cpu: Cpu, skb: SkBuff) -> None:
    """The sender of a packet has its memory back."""
    space = getattr(skb, "space", None)
    if space is not None:
        space(cpu)


@packet_function
def skb_release_data(_cpu: Cpu, _skb: SkBuff, _reason: int) -> None:
    """Let the data go."""
