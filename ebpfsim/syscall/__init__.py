"""bpf(2) of a simulated kernel (kernel/bpf/syscall.c, v6.18)."""

from ebpfsim.syscall.kernel import BpfKernel, BpfLink, LinkCreate, NetDevice

__all__ = ["BpfKernel", "BpfLink", "LinkCreate", "NetDevice"]
