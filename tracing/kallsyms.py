"""Addresses to names: functions of the kernel, generated images, programs (kernel/kallsyms.c, v6.18).

Programs go by ``bpf_prog_TAG_NAME``, trampolines by ``bpf_trampoline_KEY``, the dispatcher by ``bpf_dispatcher_xdp``.
"""

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from typing import Any

from ebpfsim.btf.types import Func, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.progs.prog import Prog
from ebpfsim.verifier.ksym import KERNEL_TEXT
from hooks.dispatcher_image import INDIRECT_THUNK_RDX, NOP_FUNC
from hooks.text import FUNCTION_BYTES, function_address, prog_text_address

__all__ = ["Kallsyms", "Symbol", "has_symbol", "prog_symbol", "symbol_address"]

# code of the kernel that its BTF does not name: assembly, and what runs before there is BTF
ASSEMBLY = (
    "entry_SYSCALL_64_after_hwframe", "asm_sysvec_apic_timer_interrupt", "asm_common_interrupt", "common_startup_64",
    "ret_from_fork_asm", "start_kernel", "x86_64_start_reservations", "x86_64_start_kernel", "start_secondary",
    "asm_exc_page_fault",
)  # fmt: skip
_ASSEMBLY_TEXT = KERNEL_TEXT + 0x110_0000

# what BTF has no name for
UNNAMED = {INDIRECT_THUNK_RDX: "__x86_indirect_thunk_rdx", NOP_FUNC: "bpf_dispatcher_nop_func"}
# (address, bytes, name)
Symbol = tuple[int, int, str]


@cache
def has_symbol(name: str) -> bool:
    """Whether the kernel has a function of that name."""
    return name in ASSEMBLY or vmlinux().find(name, Kind.FUNC) is not None


@cache
def symbol_address(name: str) -> int:
    """Return the address of a function of the kernel, whether its BTF has it or not."""
    if vmlinux().find(name, Kind.FUNC) is None and name in ASSEMBLY:
        return _ASSEMBLY_TEXT + FUNCTION_BYTES * ASSEMBLY.index(name)
    return function_address(name)


def prog_symbol(prog: Prog) -> str:
    """Return a program's name in kallsyms (``bpf_prog_get_ksym``)."""
    name = f"_{prog.name}" if prog.name else ""
    return f"bpf_prog_{prog.tag.hex()}{name}"


class Kallsyms:
    """The symbols of one kernel, as they are now."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel

    def bpf_symbols(self) -> list[Symbol]:
        """Return programs and generated images by address, as /proc/kallsyms ends with them."""
        progs: Iterable[Prog] = self._kernel.progs
        found = [(prog_text_address(prog), 8 * len(prog.insns), prog_symbol(prog)) for prog in progs]
        found += [(image.address, image.size, image.name) for image in self._kernel.text.images.values()]
        return sorted(found)

    def name_of(self, address: int) -> str:
        """Return a symbol with the distance from its beginning (``%pS`` without the size), or the bare address."""
        if address in UNNAMED:
            return UNNAMED[address]
        name, rest = self._kernel_function(address) or self._bpf_symbol(address) or ("", 0)
        if not name:
            return f"{address:#x}"
        return f"{name}+{rest:#x}" if rest else name

    def _kernel_function(self, address: int) -> tuple[str, int] | None:
        number, rest = divmod(address - KERNEL_TEXT, FUNCTION_BYTES)
        unnamed = (address - _ASSEMBLY_TEXT) // FUNCTION_BYTES
        if 0 <= unnamed < len(ASSEMBLY):
            return ASSEMBLY[unnamed], rest
        btf = vmlinux()
        if not 0 < number < btf.nr_types:
            return None
        type_ = btf.type(number)
        return (type_.name, rest) if isinstance(type_, Func) else None

    def _bpf_symbol(self, address: int) -> tuple[str, int] | None:
        symbols = self.bpf_symbols()
        at = bisect_right([start for start, _, _ in symbols], address) - 1
        if at < 0:
            return None
        start, size, name = symbols[at]
        return (name, address - start) if address < start + max(size, 1) else None
