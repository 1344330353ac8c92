"""What calls of kernel functions on objects are given beside the program's arguments (``fixup_kfunc_call``, v6.18).

Linux passes a pointer to the ``struct btf_struct_meta`` of the object's type; here it is the id that the type has in
the BTF of the program, behind the arguments that the program gives, and the place of the node in it after that.
"""

from ebpfsim.errors import NotModelled
from ebpfsim.isa.insn import Insn
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.opcodes import pseudo_kfunc_call

__all__ = ["object_arguments"]

MOV64_IMM = 0xB7
# the registers of the type, and of the place of the node; those of functions that make objects have it already
_TYPE_REG = {
    "bpf_obj_drop_impl": (2, 0),
    "bpf_refcount_acquire_impl": (2, 0),
    "bpf_list_push_front_impl": (3, 4),
    "bpf_list_push_back_impl": (3, 4),
    "bpf_rbtree_add_impl": (4, 5),
}


def object_arguments(env: Env, insns: list[Insn], origin: list[int]) -> dict[int, list[Insn]]:
    """Return what takes the place of calls, by slot; ``origin`` says what each slot was."""
    found = {}
    for i, insn in enumerate(insns):
        noted = env.kfunc_objects.get(origin[i]) if pseudo_kfunc_call(insn) else None
        registers = _TYPE_REG.get(env.kfuncs[insn.imm].name) if noted is not None else None
        if noted is None or registers is None:
            continue
        (target, node_off), (type_reg, off_reg) = noted, registers
        patch = [Insn(MOV64_IMM, type_reg, 0, 0, _type_id(env, target))]
        if off_reg:
            patch.append(Insn(MOV64_IMM, off_reg, 0, 0, node_off))
        found[i] = [*patch, insn]
    return found


def _type_id(env: Env, target: BtfId) -> int:
    if target.btf is not env.attr.btf:
        raise NotModelled("objects of another BTF than the program's", "kernel/bpf/verifier.c")
    return target.id
