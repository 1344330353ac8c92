"""Locks in map values and allocated objects (process_spin_lock(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.maps.map import Map
from ebpfsim.progs.regtypes import PTR_TO_MAP_VALUE
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.record import is_non_owning, record_of
from ebpfsim.verifier.refs import acquire_lock, find_lock, release_lock, replace_regs
from ebpfsim.verifier.state import UNKNOWN, Reg

__all__ = ["process_spin_lock"]

RES_LOCKS = ("res_lock", "res_lock_irq")


def lock_owner(reg: Reg) -> object:
    """Return what, with the register's id, tells apart locks: the map, or the BTF of the object."""
    return reg.raw.btf if isinstance(reg.raw, BtfId) else reg.raw


def _check_place(env: Env, reg: Reg, regno: int, name: str) -> None:
    # does the pointer lead to the one lock that the value or object has
    if reg.b.mask:
        text = f"R{regno} doesn't have constant offset. {name}_lock has to be at the constant offset\n"
        raise env.fail(Errno.EINVAL, text)
    what = "local 'kptr'"
    if reg.type == PTR_TO_MAP_VALUE:
        assert isinstance(reg.raw, Map)
        what = f"map '{reg.raw.name}'"
        if reg.raw.btf is None:
            raise env.fail(Errno.EINVAL, f"{what} has to have BTF in order to use {name}_lock\n")
    lock = next((field for field in record_of(reg) if field.kind == f"{name}_lock"), None)
    if lock is None:
        raise env.fail(Errno.EINVAL, f"{what} has no valid {name}_lock\n")
    off = reg.off + reg.b.smin
    if off != lock.off:
        text = f"off {off} doesn't point to 'struct {name}_lock' that is at {lock.off}\n"
        raise env.fail(Errno.EINVAL, text)


def process_spin_lock(env: Env, regno: int, *, lock: bool, res: bool = False, irq: bool = False) -> None:
    """Take or release the lock that a register points to (``process_spin_lock``)."""
    reg, state = env.cur_state.frames[-1].regs[regno], env.cur_state
    name = "bpf_res_spin" if res else "bpf_spin"
    _check_place(env, reg, regno, name)
    owner, kind = lock_owner(reg), "res_lock_irq" if irq else "res_lock" if res else "lock"
    if lock:
        # a second bpf_spin_lock is refused as a call while holding a lock
        if res and find_lock(state, reg.id, owner, RES_LOCKS) >= 0:
            raise env.fail(Errno.EINVAL, "Acquiring the same lock again, AA deadlock detected\n")
        acquire_lock(env, reg.id, owner, kind)
        return
    if not state.active_locks:
        raise env.fail(Errno.EINVAL, f"{name}_unlock without taking a lock\n")
    held = find_lock(state, reg.id, owner, (kind,))
    if held < 0:
        raise env.fail(Errno.EINVAL, f"{name}_unlock of different lock\n")
    if reg.id != state.active_lock_id or owner is not state.active_lock_ptr:
        raise env.fail(Errno.EINVAL, f"{name}_unlock cannot be out of order\n")
    release_lock(state, held)
    # what belongs to a list or tree may be gone
    replace_regs(state, lambda old: UNKNOWN if is_non_owning(old) else old)
