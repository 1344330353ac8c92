"""Addresses of kernel symbols in LD_IMM64 (check_pseudo_btf_id(), kernel/bpf/verifier.c, v6.18).

Differs: every function of the BTF has an address, at places that no other thing of the kernel is at.
"""

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, Datasec, Func, Kind, Var
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError
from ebpfsim.isa.alu import s32
from ebpfsim.progs.regtypes import MEM_PERCPU, MEM_RDONLY, PTR_TO_BTF_ID, PTR_TO_MEM
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import Reg, pointer

__all__ = ["check_pseudo_btf_id"]

PERCPU_SECTION = ".data..percpu"
# the kernel is built without the names of its variables (CONFIG_KALLSYMS_ALL)
KALLSYMS_ALL = False
# where the kernel's text and its per-CPU variables begin
KERNEL_TEXT = 0xFFFF_FFFF_8100_0000


def check_pseudo_btf_id(env: Env, i: int) -> None:
    """Find out what the symbol of an instruction is to the program (``check_pseudo_btf_id``)."""
    insn, second = env.insns[i], env.insns[i + 1]
    if second.imm:
        # no module has BTF here
        raise env.fail(Errno.EINVAL, "invalid module BTF object FD specified.\n")
    btf = vmlinux()
    id_ = insn.imm
    if not 0 <= id_ < btf.nr_types:
        raise env.fail(Errno.ENOENT, f"ldimm64 insn specifies invalid btf_id {id_}.\n")
    symbol = btf.type(id_)
    if not isinstance(symbol, Var | Func):
        text = f"pseudo btf_id {id_} in ldimm64 isn't KIND_VAR or KIND_FUNC\n"
        raise env.fail(Errno.EINVAL, text)
    if isinstance(symbol, Var) and not KALLSYMS_ALL:
        text = f"ldimm64 failed to find the address for kernel symbol '{symbol.name}'.\n"
        raise env.fail(Errno.ENOENT, text)
    env.ksyms[i] = _register(env, btf, id_, symbol)
    address = KERNEL_TEXT + 16 * id_ if isinstance(symbol, Func) else _percpu_offset(btf, id_)
    env.insns[i] = insn._replace(imm=s32(address))
    env.insns[i + 1] = second._replace(imm=s32(address >> 32))


def _register(env: Env, btf: Btf, id_: int, symbol: Var | Func) -> Reg:
    if isinstance(symbol, Func):
        return pointer(PTR_TO_MEM | MEM_RDONLY, 0)
    if _percpu_offset(btf, id_) >= 0:
        return pointer(PTR_TO_BTF_ID | MEM_PERCPU, BtfId(btf, symbol.type_id))
    type_ = btf.resolved(symbol.type_id)
    if isinstance(type_, Composite):
        return pointer(PTR_TO_BTF_ID, BtfId(btf, symbol.type_id))
    try:
        return pointer(PTR_TO_MEM | MEM_RDONLY, sizeof(btf, symbol.type_id))
    except BtfError:
        text = f"ldimm64 unable to resolve the size of type '{type_.name}': -22\n"
        raise env.fail(Errno.EINVAL, text) from None


def _percpu_offset(btf: Btf, id_: int) -> int:
    # where a variable lies in each CPU's copy, or -1
    section = btf.find(PERCPU_SECTION, Kind.DATASEC)
    if section is None:
        return -1
    datasec = btf.type(section)
    assert isinstance(datasec, Datasec)
    return next((var.off for var in datasec.vars if var.type_id == id_), -1)
