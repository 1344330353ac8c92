"""Kernel functions that a program calls by their BTF id (add_kfunc_call(), check_kfunc_call(), v6.18).

Known: what they are called and how many arguments they take, so that calls on paths that are never taken do no harm.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.insn import Insn

if TYPE_CHECKING:
    from ebpfsim.verifier.env import Env

__all__ = ["Kfunc", "add_kfunc_call", "check_kfunc_call"]


@dataclass(frozen=True, slots=True)
class Kfunc:
    """A kernel function as BTF declares it."""

    name: str
    params: int
    is_void: bool


# what the loader leaves of a call to a function that this kernel does not have
UNKNOWN_KFUNC = Kfunc("", 5, False)


def add_kfunc_call(env: "Env", insn: Insn) -> None:
    """Look up the function that an instruction calls (``add_kfunc_call``)."""
    # the kernel's BTF is large, and most programs call no function of the kernel
    from ebpfsim.btf.types import Func, FuncProto
    from ebpfsim.btf.vmlinux import vmlinux

    if not env.gpl_compatible:
        text = "cannot call kernel function from non-GPL compatible program\n"
        raise env.fail(Errno.EINVAL, text)
    if insn.off:
        raise NotModelled("call of a function in a kernel module", "kernel/bpf/verifier.c")
    if not insn.imm:
        env.kfuncs[0] = UNKNOWN_KFUNC
        return
    btf = vmlinux()
    func = btf.type(insn.imm) if 0 < insn.imm < btf.nr_types else None
    if not isinstance(func, Func):
        raise env.fail(Errno.EINVAL, f"kernel btf_id {insn.imm & 0xFFFF_FFFF} is not a function\n")
    proto = btf.type(func.type_id)
    assert isinstance(proto, FuncProto)
    env.kfuncs[insn.imm] = Kfunc(func.name, len(proto.params), not proto.type_id)


def check_kfunc_call(env: "Env", insn: Insn) -> None:
    """Verify a call of a kernel function that is reached (``check_kfunc_call``)."""
    kfunc = env.kfuncs[insn.imm]
    if kfunc.name == "__bpf_trap":
        # compilers put it where the program is undefined
        raise env.fail(Errno.EFAULT, "unexpected __bpf_trap() due to uninitialized variable?\n")
    raise NotModelled(f"call of the kernel function {kfunc.name}()", "kernel/bpf/verifier.c")
