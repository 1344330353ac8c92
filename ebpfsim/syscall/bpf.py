"""``host.bpf``: the system call of one simulated kernel."""

from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.memory.user import UserMemory
from ebpfsim.syscall.attach import AttachCalls
from ebpfsim.syscall.btf import BtfCalls, BtfObject
from ebpfsim.syscall.kernel import BpfKernel
from ebpfsim.syscall.links import LinkCalls
from ebpfsim.syscall.maps import MapCalls
from ebpfsim.syscall.objects import ObjectCalls
from ebpfsim.syscall.progs import ProgCalls
from ebpfsim.syscall.raw import RawCalls

__all__ = ["Bpf"]


class Bpf(MapCalls, ProgCalls, LinkCalls, BtfCalls, ObjectCalls, AttachCalls, RawCalls):
    """bpf(2) for a privileged task, with libbpf's names.

    A refusal raises KernelError with the kernel's errno, a command that is not served NotModelled. Keys and values of a
    wrong length raise InputError: the real call has no lengths, it would read past the end.

    ``raw`` is the call itself, on a ``union bpf_attr`` whose pointers lead into ``user``, the task's memory.
    """

    def __init__(self, kernel: BpfKernel) -> None:
        super().__init__(kernel)
        self.user = UserMemory(kernel.mem)
        # the kernel's own BTF is the first one
        kernel.btfs.add(BtfObject(vmlinux, name="vmlinux", kernel_btf=True))
