"""The words of the verifier's log: register states, instructions, source lines (kernel/bpf/log.c, v6.18)."""

from typing import TYPE_CHECKING

from ebpfsim.isa.disasm import disasm
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_MAP,
    DYNPTR_TYPE_LOCAL,
    DYNPTR_TYPE_RINGBUF,
    DYNPTR_TYPE_SKB,
    DYNPTR_TYPE_SKB_META,
    DYNPTR_TYPE_XDP,
    NON_OWN_REF,
    NOT_INIT,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_META,
    PTR_TO_STACK,
    SCALAR_VALUE,
)
from ebpfsim.uapi.flags import BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
from ebpfsim.verifier.bounds import UNBOUNDED, Range
from ebpfsim.verifier.env import Env, LineInfo
from ebpfsim.verifier.opcodes import LD_IMM64
from ebpfsim.verifier.state import (
    BPF_ADD_CONST,
    INVALID_BYTES,
    STACK_DYNPTR,
    STACK_ITER,
    STACK_SPILL,
    Dynptr,
    Frame,
    Iter,
    Reg,
    State,
    reg_type_str,
)
from ebpfsim.verifier.tnum import M32, M64, tnum_strn

if TYPE_CHECKING:
    from ebpfsim.btf.btf import Btf

__all__ = ["print_insn_state", "print_verifier_state", "verbose_linfo"]

SLOT_TYPE_CHAR = "?rm0dif"
ALL = M64
# dynptr_type_str
DYNPTR_NAMES = {
    DYNPTR_TYPE_LOCAL: "local",
    DYNPTR_TYPE_RINGBUF: "ringbuf",
    DYNPTR_TYPE_SKB: "skb",
    DYNPTR_TYPE_XDP: "xdp",
    DYNPTR_TYPE_SKB_META: "skb_meta",
}
# include/linux/bpf_verifier.h
BPF_LOG_MIN_ALIGNMENT, BPF_LOG_ALIGNMENT = 8, 40


def unum(value: int) -> str:
    """Spell an unsigned number: decimal up to 16 bits, else hex (``verbose_unum``)."""
    value &= M64
    return str(value) if value <= 0xFFFF else f"{value:#x}"


def snum(value: int) -> str:
    """Spell a signed number: decimal within 16 bits, else hex of 64 bits (``verbose_snum``)."""
    value &= M64
    signed = value - (1 << 64) if value >> 63 else value
    return str(signed) if -0x8000 <= signed <= 0x7FFF else f"{value:#x}"


def _signed32(value: int) -> int:
    # smin32 and smax32 are printed without sign extension when in hex
    return value & M64 if -0x8000 <= value <= 0x7FFF else value & M32


_RANGE_NAMES = ("smin", "smax", "umin", "umax", "smin32", "smax32", "umin32", "umax32")


def scalar_ranges(b: Range) -> list[str]:
    """Spell the bounds that say something, equal ones together (``print_scalar_ranges``)."""
    values = (
        *(b.smin & M64, b.smax & M64, b.umin, b.umax),
        *(_signed32(b.s32_min), _signed32(b.s32_max), b.u32_min, b.u32_max),
    )
    omit = [now == nothing for now, nothing in zip(b[2:], UNBOUNDED[2:], strict=True)]
    out = []
    for number, name in enumerate(_RANGE_NAMES):
        if omit[number]:
            continue
        value = values[number]
        signed = name[0] == "s"
        negative = signed and value >> 63
        text = f"{name}="
        for other in range(number + 2, 8, 2):
            # negatives and positives are not mixed
            other_negative = _RANGE_NAMES[other][0] == "s" and values[other] >> 63
            if not omit[other] and values[other] == value and bool(other_negative) == bool(negative):
                omit[other] = True
                text += f"{_RANGE_NAMES[other]}="
        out.append(text + (snum(value) if signed else unum(value)))
    return out


def reg_state(env: Env, frame: Frame, reg: Reg) -> str:
    """Spell what is known of a register (``print_reg_state``)."""
    t = reg.type
    b = reg.b
    text = "P" if t == SCALAR_VALUE and (reg.precise or not env.bpf_capable) else ""
    if t == SCALAR_VALUE and not b.mask:
        return text + snum(b.value)
    text += reg_type_str(t)
    if t == PTR_TO_ARENA:
        return text
    if t == PTR_TO_STACK:
        if frame.frameno != reg.frameno:
            text += f"[{reg.frameno}]"
        if not b.mask:
            return text + snum(b.value + reg.off)
    base = t & BASE_TYPE_MASK
    if base == PTR_TO_BTF_ID:
        text += btf_type_name(reg)
    attrs = _attributes(t, base, reg)
    if not b.mask:
        if b.value:
            attrs.append(f"imm={snum(b.value)}")
    else:
        attrs += scalar_ranges(b)
        if b.mask != ALL:
            attrs.append(f"var_off={tnum_strn((b.value, b.mask))}")
    return f"{text}({','.join(attrs)})"


def _attributes(t: int, base: int, reg: Reg) -> list[str]:
    attrs = []
    if reg.id:
        delta = f"{reg.off:+d}" if reg.id & BPF_ADD_CONST else ""
        attrs.append(f"id={reg.id & ~BPF_ADD_CONST}{delta}")
    if reg.ref_obj_id:
        attrs.append(f"ref_obj_id={reg.ref_obj_id}")
    if t & NON_OWN_REF:
        attrs.append("non_own_ref")
    if base in (CONST_PTR_TO_MAP, PTR_TO_MAP_KEY, PTR_TO_MAP_VALUE) and isinstance(reg.raw, Map):
        if reg.raw.name:
            attrs.append(f"map={reg.raw.name}")
        attrs.append(f"ks={reg.raw.attr.key_size},vs={reg.raw.attr.value_size}")
    if t != SCALAR_VALUE and reg.off:
        attrs.append(f"off={snum(reg.off)}")
    if t in (PTR_TO_PACKET, PTR_TO_PACKET_META):
        attrs.append(f"r={unum(int(str(reg.raw)))}")
    if base == PTR_TO_MEM:
        attrs.append(f"sz={unum(int(str(reg.raw)))}")
    if isinstance(reg.raw, Dynptr):
        attrs.append(f"type={DYNPTR_NAMES[reg.raw.type]}")
    return attrs


def btf_type_name(reg: Reg) -> str:
    """Return the name of the kernel type that a register points to."""
    return str(getattr(reg.raw, "name", ""))


def _dynptr_slot(frame: Frame, number: int) -> str:
    # both slots of a dynptr hold the same; the one at the higher address comes first
    reg = frame.stack[number][1]
    if not isinstance(reg.raw, Dynptr) or reg.raw.first_slot:
        return ""
    attrs = [f"id={reg.id}"]
    if reg.ref_obj_id:
        attrs.append(f"ref_id={reg.ref_obj_id}")
    # the kernel reads the mark of the first slot as the id of another dynptr
    attrs.append("dynptr_id=1")
    return f" fp{-(number + 2) * 8}=dynptr_{DYNPTR_NAMES[reg.raw.type]}({','.join(attrs)})"


def _iter_slot(frame: Frame, number: int) -> str:
    reg = frame.stack[number][1]
    if not isinstance(reg.raw, Iter) or not reg.ref_obj_id:
        return ""
    state = "active" if reg.raw.active else "drained"
    attrs = f"ref_id={reg.ref_obj_id},state={state},depth={reg.raw.depth}"
    return f" fp{-(number + 1) * 8}=iter_{reg.raw.name}({attrs})"


_SLOT_OBJECTS = {STACK_DYNPTR: _dynptr_slot, STACK_ITER: _iter_slot}


def print_verifier_state(env: Env, state: State, frameno: int, print_all: bool) -> None:
    """Write the registers and stack slots of a frame; without ``print_all`` just those touched since the last time."""
    frame = state.frames[frameno]
    out = [f" frame{frame.frameno}:"] if frame.frameno else []
    for number, reg in enumerate(frame.regs):
        if reg.type != NOT_INIT and (print_all or env.scratched_regs >> number & 1):
            out.append(f" R{number}={reg_state(env, frame, reg)}")
    for number, (types, reg) in enumerate(frame.stack):
        if types == INVALID_BYTES or not (print_all or env.scratched_slots >> number & 1):
            continue
        object_ = _SLOT_OBJECTS.get(types[7])
        if object_ is not None:
            out.append(object_(frame, number))
        elif types[7] == STACK_SPILL:
            above = "".join(SLOT_TYPE_CHAR[kind] for kind in types[: types.index(STACK_SPILL)])
            out.append(f" fp{-(number + 1) * 8}={above}{reg_state(env, frame, reg)}")
        else:
            out.append(f" fp{-(number + 1) * 8}={''.join(SLOT_TYPE_CHAR[kind] for kind in types)}")
    if state.refs and state.refs[0].id:
        out.append(" refs=" + ",".join(str(ref.id) for ref in state.refs if ref.id))
    if frame.in_callback_fn:
        out.append(" cb")
    if frame.in_async_callback_fn:
        out.append(" async_cb")
    out.append("\n")
    env.verbose("".join(out))
    if not print_all:
        mark_verifier_state_clean(env)


def mark_verifier_state_clean(env: Env) -> None:
    """Forget which registers and slots were touched."""
    env.scratched_regs = env.scratched_slots = 0


def mark_verifier_state_scratched(env: Env) -> None:
    """Take all registers and slots as touched."""
    env.scratched_regs = env.scratched_slots = ALL


def print_insn_state(env: Env, state: State, frameno: int) -> None:
    """Write what changed, behind the instruction when that was the last thing written (``print_insn_state``)."""
    log = env.log
    if env.prev_log_pos and env.prev_log_pos == log.end_pos:
        log.reset(env.prev_log_pos - 1)
        pos = env.prev_insn_print_pos
        width = max(pos + BPF_LOG_MIN_ALIGNMENT // 2, BPF_LOG_ALIGNMENT)
        width = -(-width // BPF_LOG_MIN_ALIGNMENT) * BPF_LOG_MIN_ALIGNMENT - pos - 1
        log.write(" " * width + ";")
    else:
        log.write(f"{env.insn_idx}:")
    print_verifier_state(env, state, frameno, False)


def verbose_insn(env: Env, idx: int) -> str:
    """Spell an instruction, with its line end."""
    text = disasm(env.insns, idx, env.call_name)
    insn = env.insns[idx]
    if not env.allow_ptr_leaks and insn.code == LD_IMM64 and insn.src in (BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE):
        text = text[: text.index("= ")] + "= 0x0"
    return text + "\n"


def btf_string(btf: "Btf | None", offset: int) -> str:
    """Return a string of the program's BTF."""
    return btf.string(offset) if btf is not None else ""


def find_linfo(env: Env, idx: int) -> LineInfo | None:
    """Return the line record that covers an instruction (``find_linfo``)."""
    return env.linfo_of[idx] if env.linfo_of and idx < len(env.linfo_of) else None


def verbose_linfo(env: Env, idx: int, prefix: str) -> None:
    """Write the source line of an instruction unless it was the last one written (``verbose_linfo``)."""
    if not env.log_level:
        return
    linfo, prev = find_linfo(env, idx), env.prev_linfo
    if linfo is None or linfo is prev:
        return
    if prev and linfo.file_name_off == prev.file_name_off and linfo.line == prev.line:
        return
    btf = env.attr.btf
    name = btf_string(btf, linfo.file_name_off).rpartition("/")[2]
    env.verbose(f"{prefix}{btf_string(btf, linfo.line_off).lstrip(WHITESPACE)} @ {name}:{linfo.line}\n")
    env.prev_linfo = linfo


# what isspace() of the kernel takes as white space (lib/ctype.c)
WHITESPACE = " \t\n\v\f\r\u00a0"


def fmt_reg_mask(mask: int) -> str:
    """Spell a set of registers: ``r0,r2``."""
    return ",".join(f"r{i}" for i in range(mask.bit_length()) if mask >> i & 1)


def fmt_stack_mask(mask: int) -> str:
    """Spell a set of stack slots: ``-8,-24``."""
    return ",".join(str(-(i + 1) * 8) for i in range(mask.bit_length()) if mask >> i & 1)


def spell_range(reg: Reg, low: int, high: int, where: str, name: str) -> str:
    """Word a value outside of its allowed range (``verbose_invalid_scalar``)."""
    text = f"{where} the register {name} has"
    unknown = True
    if reg.b.smin > UNBOUNDED.smin:
        text += f" smin={reg.b.smin}"
        unknown = False
    if reg.b.smax < UNBOUNDED.smax:
        text += f" smax={reg.b.smax}"
        unknown = False
    if unknown:
        text += " unknown scalar value"
    return f"{text} should have been in [{low}, {high}]\n"
