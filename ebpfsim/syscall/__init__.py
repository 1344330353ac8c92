"""bpf(2) of a simulated kernel (kernel/bpf/syscall.c, v6.18)."""

from ebpfsim.syscall.bpf import Bpf
from ebpfsim.syscall.kernel import BpfKernel, BpfLink, NetDevice
from ebpfsim.syscall.results import BtfInfo, Info, LinkInfo, Loaded, MapInfo, ProgInfo, TestRun

__all__ = [
    "Bpf",
    "BpfKernel",
    "BpfLink",
    "BtfInfo",
    "Info",
    "LinkInfo",
    "Loaded",
    "MapInfo",
    "NetDevice",
    "ProgInfo",
    "TestRun",
]
