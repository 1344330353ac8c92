"""What the loader asks of the kernel besides bpf(2): its BTF, version, configuration, addresses of symbols."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.loader.calls import BpfCalls

__all__ = ["KCONFIG", "LINUX_VERSION_CODE", "KernelView", "kernel_view"]

LINUX_VERSION_CODE = 6 << 16 | 18 << 8  # KERNEL_VERSION(6, 18, 0)

# What a .config of Linux 6.18 for x86-64 that can load these programs must say; other symbols are not modelled.
KCONFIG: Mapping[str, str] = {
    "CONFIG_64BIT": "y",
    "CONFIG_X86": "y",
    "CONFIG_X86_64": "y",
    "CONFIG_BPF": "y",
    "CONFIG_BPF_SYSCALL": "y",
    "CONFIG_BPF_JIT": "y",
    "CONFIG_DEBUG_INFO_BTF": "y",
    "CONFIG_NET": "y",
    "CONFIG_INET": "y",
    "CONFIG_SMP": "y",
    "CONFIG_HZ": "250",
    "CONFIG_ARCH_HAS_SYSCALL_WRAPPER": "y",
}


def _no_symbol(name: str) -> int | None:
    return None


@dataclass(frozen=True, slots=True)
class KernelView:
    """A kernel, as objects are fitted to it. ``kconfig`` has the values as in .config, ``symbol`` is kallsyms."""

    btf: Callable[[], Btf] = vmlinux
    version_code: int = LINUX_VERSION_CODE
    kconfig: Mapping[str, str] = field(default_factory=lambda: KCONFIG)
    symbol: Callable[[str], int | None] = _no_symbol


def kernel_view(bpf: BpfCalls) -> KernelView:
    """Return the kernel behind a bpf(2): its BTF is the one among its ids that is called ``vmlinux``."""
    known = getattr(bpf, "kernel_view", None)
    if isinstance(known, KernelView):
        return known
    found: list[Btf] = []

    def btf() -> Btf:
        if not found:
            found.append(_find_vmlinux(bpf))
        return found[0]

    return KernelView(btf)


def _find_vmlinux(bpf: BpfCalls) -> Btf:
    btf_id = 0
    while True:
        try:
            btf_id = bpf.btf_get_next_id(btf_id)
            fd = bpf.btf_get_fd_by_id(btf_id)
        except KernelError:
            return vmlinux()
        try:
            info = bpf.obj_get_info_by_fd(fd)
        finally:
            bpf.close(fd)
        if info.name == "vmlinux" and info.kernel_btf:
            own = vmlinux()
            return own if info.btf == own.raw else Btf(info.btf, where="vmlinux")
