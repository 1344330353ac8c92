"""What Linux puts in the place of single instructions before it compiles a program (do_misc_fixups(), v6.18).

On x86-64, with its just-in-time compiler. ``ebpfsim.verifier.xlated`` says who uses it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ebpfsim.errnos import Errno
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.ld_abs import SKB_LOAD_HELPERS, gen_ld_abs
from ebpfsim.maps.map import Map
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.call_symbols import helper_symbol, map_symbol
from ebpfsim.verifier.fixup import Away
from ebpfsim.verifier.inline_maps import gen_lookup, index_mask, op
from ebpfsim.verifier.kernel_calls import call_offset
from ebpfsim.verifier.kfunc import Kfunc
from ebpfsim.verifier.opcodes import BPF_ALU64, BPF_X, CALL, MAY_GOTO, helper_call, pseudo_kfunc_call
from ebpfsim.verifier.sanitize import (
    BPF_ALU_IMMEDIATE,
    BPF_ALU_NEG_VALUE,
    BPF_ALU_NON_POINTER,
    BPF_ALU_SANITIZE_SRC,
)

__all__ = ["Facts", "Loop", "Object", "Patch", "Place", "misc_fixup"]

R0, R1, R2, R3, R4, R5, R6, R7, R8, R10, AX = 0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11
BPF_MAX_LOOPS = 8 << 20
GFP_ATOMIC, GFP_KERNEL = 0x820, 0xCC0  # include/linux/gfp_types.h
# per-CPU offset of cpu_number, and the address of jiffies, of the kernel that kernel_calls is of
CPU_NUMBER, JIFFIES = -0x7C4F1FCC, 0xFFFF_FFFF_8300_9980
# Differs: Linux shows where its records of the program and of its structures are, all of which are here for us
AUX_ADDRESS = 0xFFFF_C900_0000_0000
BPF_FUNC_map_lookup_elem, BPF_FUNC_tail_call = 1, 12
Patch = Sequence[Insn | Away]


@dataclass(frozen=True, slots=True)
class Loop:
    """A call of bpf_loop() that becomes instructions; ``callback`` is the first slot of the function it calls."""

    callback: int


@dataclass(frozen=True, slots=True)
class Object:
    """What a call makes, drops or adds to a list: its size, whether it has special fields, where its node lies."""

    size: int
    special: bool
    off: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verifier found out; keys are slots of the program as it was loaded."""

    prog_type: ProgType
    attach_type: int
    sleepable: bool
    packet_read_only: bool
    kfuncs: Mapping[int, Kfunc]
    map_ptr_state: Mapping[int, list[object]]
    loop_inline: Mapping[int, Loop]
    kfunc_objects: Mapping[int, Object]
    percpu_objects: frozenset[int]
    atomic_storage: frozenset[int]
    known_tail_calls: frozenset[int]  # of one array, at a constant index
    throws: bool
    nospec: frozenset[int] = frozenset()
    nospec_result: frozenset[int] = frozenset()
    alu_sanitation: Mapping[int, tuple[int, int]] = field(
        default_factory=dict
    )  # how additions to pointers are masked: state and limit


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instruction is: its slot now, the slot that it comes from, and the stack of its function."""

    slot: int
    origin: int
    stack_depth: int
    callback: int = 0  # where the callback of a bpf_loop() begins


def misc_fixup(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    """Return what stands for an instruction; None when it stays."""
    if insn.code in _DIVISIONS:
        return _division(insn)
    if insn.code in (ADD, SUB):
        return _masked(facts, insn, place)
    packet = gen_ld_abs(insn)
    if packet:
        return [_packet_call(each) for each in packet]
    if insn.code == MAY_GOTO:
        return _may_goto(insn, place)
    if pseudo_kfunc_call(insn):
        return _kfunc_call(facts, insn, place)
    if helper_call(insn):
        return _helper_call(facts, insn, place)
    return None


# ---- arithmetic ----------------------------------------------------------------------------------------------------

# DIV and MOD of both widths, by registers and by constants
_DIVISIONS = frozenset((0x34, 0x3C, 0x37, 0x3F, 0x94, 0x9C, 0x97, 0x9F))
BPF_DIV = 0x30
ADD, SUB = 0x0F, 0x1F


def _division(insn: Insn) -> list[Insn] | None:
    is64, is_div, signed = insn.code & 7 == BPF_ALU64, insn.code & 0xF0 == BPF_DIV, insn.off == 1
    bits = "64" if is64 else "32"
    if not insn.code & BPF_X:
        if not signed or insn.imm != -1:
            return None
        return [op(f"neg{bits}", insn.dst) if is_div else op("mov32.imm", insn.dst)]
    if signed:
        # by 0 and by -1
        start = [op("mov64.reg", AX, insn.src), op(f"add{bits}.imm", AX, imm=1)]
        return start + (_sdiv if is_div else _smod)(insn, bits)
    if is_div:
        zero = op("xor32.reg", insn.dst, insn.dst)
        return [op(f"jne{bits}.imm", insn.src, off=2), zero, op("ja", off=1), insn]
    return [op(f"jeq{bits}.imm", insn.src, off=1 if is64 else 2), insn, *_cut(insn, is64)]


def _masked(facts: Facts, insn: Insn, place: Place) -> list[Insn] | None:
    # an offset that is out of bounds on a guessed path becomes zero
    state, limit = facts.alu_sanitation.get(place.origin, (BPF_ALU_NON_POINTER, 0))
    if state & BPF_ALU_NON_POINTER:
        return None
    is_neg, is_src = state & BPF_ALU_NEG_VALUE, state & BPF_ALU_SANITIZE_SRC
    is_imm = state & BPF_ALU_IMMEDIATE
    off = insn.src if is_src else insn.dst
    negated = [op("mul64.imm", off, imm=-1)] if is_neg and not is_imm else []
    patch = [*negated, op("mov32.imm", AX, imm=limit)]
    if not is_imm:
        patch += [op("sub64.reg", AX, off), op("or64.reg", AX, off), op("neg64", AX)]
        patch += [op("arsh64.imm", AX, imm=63), op("and64.reg", AX, off)]
    if not is_src:
        patch.append(op("mov64.reg", insn.dst, insn.src))
    patch.append(insn._replace(src=AX, code=(ADD if insn.code == SUB else SUB) if is_neg else insn.code))
    return patch + (negated if is_src else [])


def _sdiv(insn: Insn, bits: str) -> list[Insn]:
    return [
        op(f"jgt{bits}.imm", AX, off=4, imm=1),
        op(f"jeq{bits}.imm", AX, off=1),
        *(op(f"mov{bits}.imm", insn.dst), op(f"neg{bits}", insn.dst), op("ja", off=1), insn),
    ]


def _smod(insn: Insn, bits: str) -> list[Insn]:
    is64 = bits == "64"
    return [
        op(f"jgt{bits}.imm", AX, off=3, imm=1),
        op(f"jeq{bits}.imm", AX, off=3 if is64 else 4, imm=1),
        *(op("mov32.imm", insn.dst), op("ja", off=1), insn, *_cut(insn, is64)),
    ]


def _cut(insn: Insn, is64: bool) -> list[Insn]:
    # a remainder of 32 bits by 0 clears the upper half
    return [] if is64 else [op("ja", off=1), op("mov32.reg", insn.dst, insn.dst)]


def _packet_call(insn: Insn) -> Insn:
    if insn.code != CALL:
        return insn
    size = next(size for size, number in SKB_LOAD_HELPERS.items() if number == insn.imm)
    return insn._replace(imm=call_offset(f"bpf_skb_load_helper_{8 * size}_no_cache"))


def _may_goto(insn: Insn, place: Place) -> Patch:
    # the turns that are left, and after them what the time says
    count = -place.stack_depth
    return [
        op("ldx.u64", AX, R10, count),
        Away(op("jeq64.imm", AX), place.slot + 1 + insn.off),
        op("sub64.imm", AX, imm=1),
        op("jne64.imm", AX, off=2),
        op("mov64.imm", AX, imm=count),
        op("call", imm=call_offset("arch_bpf_timed_may_goto")),
        op("stx.u64", R10, AX, count),
    ]


# ---- helpers -------------------------------------------------------------------------------------------------------


def _helper_call(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    if insn.imm == BPF_FUNC_tail_call:
        # a code of its own in the kernel; a dump shows the call
        return _tail_call(facts, insn, place)
    inlined = _INLINED.get(insn.imm)
    if inlined is not None:
        patch = inlined(facts, insn, place)
        if patch is not None:
            return patch
    maps = facts.map_ptr_state.get(place.origin, [])
    if insn.imm in _MAP_HELPERS and len(maps) == 1:
        map_ = maps[0]
        assert isinstance(map_, Map)
        patch = gen_lookup(map_) if insn.imm == BPF_FUNC_map_lookup_elem else []
        if patch:
            return patch
        name = map_symbol(insn.imm, map_.attr.map_type)
        if name:
            return [insn._replace(imm=call_offset(name))]
    return [_called(facts, insn)]


def _tail_call(facts: Facts, insn: Insn, place: Place) -> list[Insn] | None:
    map_ = facts.map_ptr_state[place.origin][-1]
    assert isinstance(map_, Map)
    if map_.bypass_spec:
        return None
    return [op("jge64.imm", R3, off=2, imm=map_.max_entries), *index_mask(map_, R3), insn]


# map_{lookup,update,delete}_elem, redirect_map, map_{push,pop,peek}_elem, for_each_map_elem, map_lookup_percpu_elem
_MAP_HELPERS = frozenset((1, 2, 3, 51, 87, 88, 89, 164, 195))


def _called(facts: Facts, insn: Insn) -> Insn:
    name = helper_symbol(insn.imm, facts.prog_type, facts.attach_type, sleepable=facts.sleepable)
    return insn._replace(imm=call_offset(name))


def _load_address(dst: int, address: int) -> list[Insn]:
    low, high = address & 0xFFFF_FFFF, address >> 32
    return [Insn(0x18, dst, 0, 0, _s32(low)), Insn(0, 0, 0, 0, _s32(high))]


def _s32(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _smp_processor_id(facts: Facts, insn: Insn, place: Place) -> Patch:
    return [op("mov64.imm", R0, imm=CPU_NUMBER), op("percpu_addr", R0, R0), op("ldx.u32", R0, R0)]


def _jiffies64(facts: Facts, insn: Insn, place: Place) -> Patch:
    return [*_load_address(R0, JIFFIES), op("ldx.u64", R0, R0)]


def _kptr_xchg(facts: Facts, insn: Insn, place: Place) -> Patch:
    return [op("mov64.reg", R0, R2), op("xchg64", R1, R0)]


def _timer_set_callback(facts: Facts, insn: Insn, place: Place) -> Patch:
    return [*_load_address(R3, AUX_ADDRESS), _called(facts, insn)]


def _storage_get(facts: Facts, insn: Insn, place: Place) -> Patch:
    atomic = not facts.sleepable or place.origin in facts.atomic_storage
    return [op("mov64.imm", R5, imm=GFP_ATOMIC if atomic else GFP_KERNEL), _called(facts, insn)]


def _per_cpu_ptr(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    if place.origin not in facts.percpu_objects:
        return None
    # the object holds the address of the per-CPU memory
    return [op("ldx.u64", R1, R1), _called(facts, insn)]


def _func_arg(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    if facts.prog_type != ProgType.TRACING:
        return None
    return [
        *(op("ldx.u64", R0, R1, -8), op("jge32.reg", R2, R0, 6), op("lsh64.imm", R2, imm=3)),
        *(op("add64.reg", R2, R1), op("ldx.u64", R0, R2), op("stx.u64", R3, R0)),
        *(op("mov64.imm", R0), op("ja", off=1), op("mov64.imm", R0, imm=-Errno.EINVAL)),
    ]


def _func_ret(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    if facts.prog_type != ProgType.TRACING:
        return None
    if facts.attach_type not in (AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN):
        return [op("mov64.imm", R0, imm=-Errno.EOPNOTSUPP)]
    return [
        *(op("ldx.u64", R0, R1, -8), op("lsh64.imm", R0, imm=3), op("add64.reg", R0, R1)),
        *(op("ldx.u64", R3, R0), op("stx.u64", R2, R3), op("mov64.imm", R0)),
    ]


def _func_arg_cnt(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    return [op("ldx.u64", R0, R1, -8)] if facts.prog_type == ProgType.TRACING else None


def _func_ip(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    return [op("ldx.u64", R0, R1, -16)] if facts.prog_type == ProgType.TRACING else None


def _branch_snapshot(facts: Facts, insn: Insn, place: Place) -> Patch:
    # entries of 24 bytes: the size is divided by 3, by a multiplication, and by 8
    return [
        # without a driver for them in a virtual machine the call gives 0
        op("jne64.imm", R3, off=7),
        op("mov32.imm", R0, imm=_s32(0xAAAA_AAAB)),
        *(op("mul64.reg", R2, R0), op("rsh64.imm", R2, imm=36)),
        op("call", imm=call_offset("__static_call_return0")),
        *(op("jeq64.imm", R0, off=4), op("mul32.imm", R0, imm=24), op("ja", off=3)),
        *(op("mov64.imm", R0, imm=-Errno.EINVAL), op("ja", off=1), op("mov64.imm", R0, imm=-Errno.ENOENT)),
    ]


def _loop(facts: Facts, insn: Insn, place: Place) -> Patch | None:
    # inline_bpf_loop(); R6 to R8 are kept on the stack
    if place.origin not in facts.loop_inline:
        return None
    base = -place.stack_depth
    saved = ((R6, base), (R7, base + 8), (R8, base + 16))
    return [
        *(op("jle64.imm", R1, off=2, imm=BPF_MAX_LOOPS), op("mov32.imm", R0, imm=-Errno.E2BIG), op("ja", off=16)),
        *(op("stx.u64", R10, reg, off) for reg, off in saved),
        *(op("mov64.reg", R6, R1), op("mov32.imm", R7), op("mov64.reg", R8, R3)),
        *(op("jge64.reg", R7, R6, 5), op("mov64.reg", R1, R7), op("mov64.reg", R2, R8)),
        Away(op("call.local"), place.callback),
        *(op("add64.imm", R7, imm=1), op("jeq64.imm", R0, off=-6), op("mov64.reg", R0, R7)),
        *(op("ldx.u64", reg, R10, off) for reg, off in saved),
    ]


_Inline = Callable[[Facts, Insn, Place], Patch | None]
_INLINED: Mapping[int, _Inline] = {
    8: _smp_processor_id,
    **dict.fromkeys((107, 145, 156, 210), _storage_get),
    118: _jiffies64,
    **dict.fromkeys((153, 154), _per_cpu_ptr),
    170: _timer_set_callback,
    173: _func_ip,
    176: _branch_snapshot,
    181: _loop,
    183: _func_arg,
    184: _func_ret,
    185: _func_arg_cnt,
    194: _kptr_xchg,
}


# ---- kernel functions ----------------------------------------------------------------------------------------------


def _kfunc_call(facts: Facts, insn: Insn, place: Place) -> Patch:
    # fixup_kfunc_call()
    kfunc = facts.kfuncs[insn.imm]
    name = kfunc.name
    if name == "bpf_dynptr_from_skb" and facts.packet_read_only:
        name = "bpf_dynptr_from_skb_rdonly"
    call = insn._replace(imm=call_offset(name))
    if name in ("bpf_cast_to_kern_ctx", "bpf_rdonly_cast"):
        return [op("mov64.reg", R0, R1)]
    if name in ("bpf_obj_new_impl", "bpf_percpu_obj_new_impl"):
        made = facts.kfunc_objects[place.origin]
        return [op("mov64.imm", R1, imm=made.size), *_meta(facts, R2, made), call]
    if name in ("bpf_obj_drop_impl", "bpf_percpu_obj_drop_impl", "bpf_refcount_acquire_impl"):
        return [*_meta(facts, R2, facts.kfunc_objects[place.origin]), call]
    if name in ("bpf_list_push_back_impl", "bpf_list_push_front_impl", "bpf_rbtree_add_impl"):
        added = facts.kfunc_objects[place.origin]
        reg = R4 if name == "bpf_rbtree_add_impl" else R3
        return [*_meta(facts, reg, added), op("mov64.imm", reg + 1, imm=added.off), call]
    prog_arg = next((n for n, arg in enumerate(kfunc.args, start=1) if arg.name.endswith("__prog")), 0)
    if prog_arg:
        return [*_load_address(prog_arg, AUX_ADDRESS), call]
    return [call]


def _meta(facts: Facts, reg: int, object_: Object) -> list[Insn]:
    # where the special fields of a structure are described; nothing describes one without
    return _load_address(reg, AUX_ADDRESS if object_.special else 0)
