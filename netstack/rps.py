"""Receive packet steering: the CPU that receives a packet by its hash (``get_rps_cpu``, net/core/dev.c, v6.18).

A device's ``rps_cpus`` are those of /sys/class/net/DEVICE/queues/rx-N/rps_cpus, the same for each queue. Left out: flow
tables (RFS). Differs: the other CPU is interrupted for each packet, where Linux does so once at the end of a poll.
"""

from functools import partial

from ebpfsim.cpu import Cpu
from netstack.flow_dissector import skb_get_hash
from netstack.skb import SkBuff

__all__ = ["steer_packet"]


def steer_packet(skb: SkBuff, cpu: Cpu) -> bool:
    """Put a packet into the backlog of the CPU that its hash chooses; False without ``rps_cpus``."""
    dev = skb.dev
    cpus = dev.rps_cpus
    if not cpus:
        return False
    chosen = cpus[skb_get_hash(skb, cpu) * len(cpus) >> 32]  # reciprocal_scale()
    if chosen >= len(dev.net.backlogs):
        # cpu_online()
        return False
    backlog = dev.net.backlogs[chosen]
    if chosen == cpu.number:
        backlog.enqueue(skb)
    else:
        dev.at_cpu_time(cpu, partial(backlog.enqueue, skb, remote=True))
    return True
