"""Interrupt flags in stack slots: bpf_local_irq_save() and _restore() (kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.progs.regtypes import PTR_TO_STACK
from ebpfsim.verifier.bounds import ZERO
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.mem import check_mem_access
from ebpfsim.verifier.slots import (
    BAD_PLACE,
    OUT_OF_STACK,
    clear_slots,
    mark_stack_slot_obj_read,
    set_slots,
    stack_slot_obj_get_spi,
)
from ebpfsim.verifier.stack import WRITE
from ebpfsim.verifier.state import IRQ_FLAG_BYTES, STACK_IRQ_FLAG, Ref, Reg

__all__ = ["process_irq_flag"]

# kind of function that took the flag: by itself, or together with a lock
NATIVE, LOCK = "native", "lock"


def _get_spi(env: Env, reg: Reg) -> int:
    return stack_slot_obj_get_spi(env, reg, "irq_flag", 1)


def process_irq_flag(env: Env, regno: int, *, save: bool, kind: str) -> None:
    """Check the interrupt flag that a function saves or restores (``process_irq_flag``)."""
    reg = env.cur_state.frames[-1].regs[regno]
    spi = _get_spi(env, reg)
    stack = env.cur_state.frames[reg.frameno].stack
    if save:
        if spi == BAD_PLACE or (spi != OUT_OF_STACK and STACK_IRQ_FLAG in stack[spi][0]):
            raise env.fail(Errno.EINVAL, f"expected uninitialized irq flag as arg#{regno - 1}\n")
        check_mem_access(env, env.insn_idx, regno, 0, 8, WRITE, -1, False, False)
        _mark(env, reg, kind)
        return
    if spi < 0 or not stack[spi][1].ref_obj_id or stack[spi][0] != IRQ_FLAG_BYTES:
        raise env.fail(Errno.EINVAL, f"expected an initialized irq flag as arg#{regno - 1}\n")
    mark_stack_slot_obj_read(env, reg, spi, 1)
    _unmark(env, reg, spi, kind)


def _mark(env: Env, reg: Reg, kind: str) -> None:
    # mark_stack_slot_irq_flag
    state, spi = env.cur_state, _get_spi(env, reg)
    id_ = env.next_id()
    state.refs = (*state.refs, Ref("irq", id_, env.insn_idx))
    state.active_irq_id = id_
    flag = Reg(PTR_TO_STACK, ZERO)
    flag.ref_obj_id = id_
    flag.raw = kind
    set_slots(env, state.frames[reg.frameno], spi, IRQ_FLAG_BYTES, [flag])
    env.scratched_slots |= 1 << spi


def _unmark(env: Env, reg: Reg, spi: int, kind: str) -> None:
    # unmark_stack_slot_irq_flag
    state = env.cur_state
    frame = state.frames[reg.frameno]
    flag = frame.stack[spi][1]
    if flag.raw != kind:
        text = f"irq flag acquired by {flag.raw} kfuncs cannot be restored with {kind} kfuncs\n"
        raise env.fail(Errno.EINVAL, text)
    if flag.ref_obj_id != state.active_irq_id:
        taken = next((ref.insn_idx for ref in state.refs if ref.id == state.active_irq_id), 0)
        text = (
            f"cannot restore irq state out of order, expected id={state.active_irq_id} acquired at insn_idx={taken}\n"
        )
        raise env.fail(Errno.EACCES, text)
    state.refs = tuple(ref for ref in state.refs if ref.id != flag.ref_obj_id or ref.kind != "irq")
    state.active_irq_id = next((ref.id for ref in reversed(state.refs) if ref.kind == "irq"), 0)
    clear_slots(env, frame, spi, 1)
    env.scratched_slots |= 1 << spi
