"""bpf(2) of the kernel that this machine runs, behind the interface of ``host.bpf`` (Linux, x86-64, root)."""

from ebpfsim.live.bpf import Bpf

__all__ = ["Bpf"]
