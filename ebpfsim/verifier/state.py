"""Registers, stack slots, frames and verifier states (include/linux/bpf_verifier.h, v6.18).

A ``Reg`` that is in a frame is never changed: a changed copy takes its place. So frames share registers, and copying a
state copies references. Left out: ``subreg_def`` (x86-64 needs no explicit zero extension).
"""

from typing import NamedTuple

from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    CONST_PTR_TO_DYNPTR,
    CONST_PTR_TO_MAP,
    MEM_PERCPU,
    MEM_RCU,
    MEM_RDONLY,
    MEM_RINGBUF,
    MEM_USER,
    NOT_INIT,
    PTR_MAYBE_NULL,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_BUF,
    PTR_TO_CTX,
    PTR_TO_FLOW_KEYS,
    PTR_TO_FUNC,
    PTR_TO_MAP_KEY,
    PTR_TO_MAP_VALUE,
    PTR_TO_MEM,
    PTR_TO_PACKET,
    PTR_TO_PACKET_END,
    PTR_TO_PACKET_META,
    PTR_TO_SOCK_COMMON,
    PTR_TO_SOCKET,
    PTR_TO_STACK,
    PTR_TO_TCP_SOCK,
    PTR_TO_TP_BUFFER,
    PTR_TO_XDP_SOCK,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.verifier.bounds import UNBOUNDED, ZERO, Range, known

__all__ = ["Dynptr", "Frame", "Iter", "Ref", "Reg", "State"]

# enum bpf_stack_slot_type
STACK_INVALID, STACK_SPILL, STACK_MISC, STACK_ZERO, STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG = range(7)

MAX_BPF_REG = 11
BPF_REG_FP = 10
BPF_REG_SIZE = 8
MAX_BPF_STACK = 512
MAX_CALL_FRAMES = 8
BPF_MAIN_FUNC = -1
# in Reg.id: the register is the linked value plus Reg.off, added in 64 or in 32 bits
BPF_ADD_CONST64, BPF_ADD_CONST32 = 1 << 31, 1 << 30
BPF_ADD_CONST = BPF_ADD_CONST64 | BPF_ADD_CONST32

# Reg.raw of a packet pointer that is known to lie at or beyond the end of the packet
AT_PKT_END = -1
BEYOND_PKT_END = -2

_TYPE_NAMES = {
    NOT_INIT: "?",
    SCALAR_VALUE: "scalar",
    PTR_TO_CTX: "ctx",
    CONST_PTR_TO_MAP: "map_ptr",
    PTR_TO_MAP_VALUE: "map_value",
    PTR_TO_STACK: "fp",
    PTR_TO_PACKET: "pkt",
    PTR_TO_PACKET_META: "pkt_meta",
    PTR_TO_PACKET_END: "pkt_end",
    PTR_TO_FLOW_KEYS: "flow_keys",
    PTR_TO_SOCKET: "sock",
    PTR_TO_SOCK_COMMON: "sock_common",
    PTR_TO_TCP_SOCK: "tcp_sock",
    PTR_TO_TP_BUFFER: "tp_buffer",
    PTR_TO_XDP_SOCK: "xdp_sock",
    PTR_TO_BTF_ID: "ptr_",
    PTR_TO_MEM: "mem",
    PTR_TO_ARENA: "arena",
    PTR_TO_BUF: "buf",
    PTR_TO_FUNC: "func",
    PTR_TO_MAP_KEY: "map_key",
    CONST_PTR_TO_DYNPTR: "dynptr_ptr",
}
_PREFIXES = (
    (MEM_RDONLY, "rdonly_"),
    (MEM_RINGBUF, "ringbuf_"),
    (MEM_USER, "user_"),
    (MEM_PERCPU, "percpu_"),
    (MEM_RCU, "rcu_"),
    (PTR_UNTRUSTED, "untrusted_"),
    (PTR_TRUSTED, "trusted_"),
)


def reg_type_str(type_: int) -> str:
    """Spell a register type as the log does (``reg_type_str``)."""
    base = type_ & BASE_TYPE_MASK
    suffix = ""
    if type_ & PTR_MAYBE_NULL:
        suffix = "or_null_" if base == PTR_TO_BTF_ID else "_or_null"
    return "".join(text for flag, text in _PREFIXES if type_ & flag) + _TYPE_NAMES[base] + suffix


class Dynptr(NamedTuple):
    """What the verifier knows of a dynptr: its type flag, and in which of its two stack slots this is."""

    type: int
    first_slot: bool


class Iter(NamedTuple):
    """What the verifier knows of an open-coded iterator: the kernel type of its state, and how far it is."""

    btf_id: int
    name: str
    active: bool
    depth: int


class Reg:
    """One register or spilled register (``struct bpf_reg_state``).

    ``off`` is the fixed offset of a pointer, or of a scalar linked by ``BPF_ADD_CONST``. ``raw`` stands for the union:
    the range of a packet pointer, the map of map pointers, keys and values, the size of a PTR_TO_MEM, the subprogram of
    a PTR_TO_FUNC, in a stack slot a ``Dynptr``, an ``Iter`` or the kind of an interrupt flag. ``b`` holds tnum and
    bounds. ``map_uid`` tells apart inner maps; of a PTR_TO_MEM it is the id of the dynptr that it is a slice of.
    """

    __slots__ = ("b", "frameno", "id", "map_uid", "off", "precise", "raw", "ref_obj_id", "type")

    type: int
    b: Range
    off: int
    raw: object
    map_uid: int
    id: int
    ref_obj_id: int
    frameno: int
    precise: bool

    def __init__(self, type_: int, b: Range) -> None:
        self.type = type_
        self.b = b
        self.off = 0
        self.raw = 0
        self.map_uid = 0
        self.id = 0
        self.ref_obj_id = 0
        self.frameno = 0
        self.precise = False

    def copy(self) -> "Reg":
        """Return a copy, to be changed before it goes into a frame."""
        new: Reg = _new(Reg)
        new.type = self.type
        new.b = self.b
        new.off = self.off
        new.raw = self.raw
        new.map_uid = self.map_uid
        new.id = self.id
        new.ref_obj_id = self.ref_obj_id
        new.frameno = self.frameno
        new.precise = self.precise
        return new

    def with_precise(self, precise: bool) -> "Reg":
        """Return a copy whose value matters for safety, or no longer does."""
        new = self.copy()
        new.precise = precise
        return new

    def same(self, other: "Reg") -> bool:
        """Compare all up to ``id``, as memcmp() over ``struct bpf_reg_state`` does."""
        return self is other or (
            self.type == other.type
            and self.off == other.off
            and self.b == other.b
            and self.raw == other.raw
            and self.map_uid == other.map_uid
        )


_new = Reg.__new__

UNINIT = Reg(NOT_INIT, UNBOUNDED)
UNKNOWN = Reg(SCALAR_VALUE, UNBOUNDED)
_known_cache: dict[int, Reg] = {}


def known_scalar(value: int) -> Reg:
    """Return a scalar register of one value."""
    reg = _known_cache.get(value)
    if reg is None:
        reg = Reg(SCALAR_VALUE, known(value))
        if len(_known_cache) >= 65536:
            _known_cache.clear()
        _known_cache[value] = reg
    return reg


def pointer(type_: int, raw: object = 0) -> Reg:
    """Return a pointer register at offset zero (``mark_reg_known_zero`` and a type)."""
    reg = Reg(type_, ZERO)
    reg.raw = raw
    return reg


def scalar(b: Range) -> Reg:
    """Return a scalar register of a range."""
    return Reg(SCALAR_VALUE, b)


# One stack slot of 8 bytes: what each byte holds (index 7 is the lowest address), and the spilled register
Slot = tuple[bytes, Reg]
INVALID_BYTES = bytes(8)
MISC_BYTES = bytes([STACK_MISC]) * 8
ZERO_BYTES = bytes([STACK_ZERO]) * 8
DYNPTR_BYTES = bytes([STACK_DYNPTR]) * 8
ITER_BYTES = bytes([STACK_ITER]) * 8
IRQ_FLAG_BYTES = bytes([STACK_IRQ_FLAG]) * 8
SPILL_BYTES = bytes([STACK_SPILL]) * 8
# bytes of which nothing is known: a privileged program may read even those that nobody wrote
INERT_KINDS = bytes([STACK_INVALID, STACK_MISC])
EMPTY_SLOT: Slot = (INVALID_BYTES, UNINIT)


def is_spilled_reg(slot: Slot) -> bool:
    """Say whether a register was spilled into the slot, in full or in part."""
    return slot[0][7] == STACK_SPILL


def is_special_slot(slot: Slot) -> bool:
    """Say whether the slot holds a register, a dynptr, an iterator or an interrupt flag (``is_stack_slot_special``)."""
    return slot[0][7] in (STACK_SPILL, STACK_DYNPTR, STACK_ITER, STACK_IRQ_FLAG)


def is_spilled_scalar(slot: Slot) -> bool:
    """Say whether a scalar was spilled into the slot, in full or in part (``is_spilled_scalar_reg``)."""
    return slot[0][7] == STACK_SPILL and slot[1].type == SCALAR_VALUE


# The registers and slots of a kept frame that later frames are compared with, by number
Checks = tuple[list[tuple[int, Reg]], list[tuple[int, Slot]]]


class Frame:
    """A called function (``struct bpf_func_state``): registers, stack, and where it was called from.

    ``checks`` is what a comparison with this frame looks at, once it was found; who changes a kept frame forgets it.
    """

    __slots__ = (
        "async_entry_cnt",
        "callback_depth",
        "callback_ret_range",
        "callsite",
        "checks",
        "frameno",
        "in_async_callback_fn",
        "in_callback_fn",
        "regs",
        "stack",
        "subprogno",
    )

    def __init__(self, callsite: int, frameno: int, subprogno: int) -> None:
        self.regs: list[Reg] = [UNINIT] * MAX_BPF_REG
        fp = Reg(PTR_TO_STACK, ZERO)
        fp.frameno = frameno
        self.regs[BPF_REG_FP] = fp
        self.stack: list[Slot] = []
        self.callsite = callsite
        self.frameno = frameno
        self.subprogno = subprogno
        self.callback_depth = 0
        self.callback_ret_range = (0, 0)
        self.in_callback_fn = False
        self.in_async_callback_fn = False
        self.async_entry_cnt = 0
        self.checks: Checks | None = None

    def copy(self) -> "Frame":
        """Return a copy that shares registers and slots."""
        new: Frame = _new_frame(Frame)
        new.regs = self.regs[:]
        new.stack = self.stack[:]
        new.callsite = self.callsite
        new.frameno = self.frameno
        new.subprogno = self.subprogno
        new.callback_depth = self.callback_depth
        new.callback_ret_range = self.callback_ret_range
        new.in_callback_fn = self.in_callback_fn
        new.in_async_callback_fn = self.in_async_callback_fn
        new.async_entry_cnt = self.async_entry_cnt
        new.checks = None
        return new


_new_frame = Frame.__new__


class Ref(NamedTuple):
    """An acquired reference (``struct bpf_reference_state``); ``kind`` is ``ptr``, ``lock``, ``irq``."""

    kind: str
    id: int
    insn_idx: int
    ptr: object = None


# One recorded jump or stack access: insn_idx, the previous one, flags, linked registers
History = tuple[int, int, int, tuple[tuple[int, int, bool], ...]]


class State:
    """A verifier state (``struct bpf_verifier_state``)."""

    __slots__ = (
        "active_irq_id",
        "active_lock_id",
        "active_lock_ptr",
        "active_locks",
        "active_preempt_locks",
        "active_rcu_locks",
        "branches",
        "callback_unroll_depth",
        "cleaned",
        "dfs_depth",
        "equal_state",
        "first_insn_idx",
        "frames",
        "hit_cnt",
        "in_free_list",
        "in_sleepable",
        "insn_idx",
        "jmp_history",
        "last_insn_idx",
        "may_goto_depth",
        "miss_cnt",
        "parent",
        "refs",
        "speculative",
    )

    def __init__(self, frame: Frame, first_insn_idx: int) -> None:
        self.frames = [frame]
        self.refs: tuple[Ref, ...] = ()
        self.active_locks = 0
        self.active_lock_id = 0
        self.active_lock_ptr: object = None
        self.active_irq_id = 0
        self.active_preempt_locks = 0
        self.active_rcu_locks = 0
        self.in_sleepable = False
        self.speculative = False
        self.cleaned = False
        self.branches = 1
        self.parent: State | None = None
        self.first_insn_idx = first_insn_idx
        self.last_insn_idx = -1
        self.insn_idx = 0
        self.dfs_depth = 0
        self.callback_unroll_depth = 0
        self.may_goto_depth = 0
        self.equal_state: State | None = None
        self.jmp_history: list[History] = []
        # struct bpf_verifier_state_list
        self.in_free_list = False
        self.hit_cnt = 0
        self.miss_cnt = 0

    @property
    def curframe(self) -> int:
        """The number of the innermost frame."""
        return len(self.frames) - 1

    def copy(self) -> "State":
        """Return a copy that shares registers, slots and history entries (``copy_verifier_state``)."""
        new: State = _new_state(State)
        new.frames = [frame.copy() for frame in self.frames]
        new.refs = self.refs
        new.active_locks = self.active_locks
        new.active_lock_id = self.active_lock_id
        new.active_lock_ptr = self.active_lock_ptr
        new.active_irq_id = self.active_irq_id
        new.active_preempt_locks = self.active_preempt_locks
        new.active_rcu_locks = self.active_rcu_locks
        new.in_sleepable = self.in_sleepable
        new.speculative = self.speculative
        new.cleaned = self.cleaned
        new.branches = self.branches
        new.parent = self.parent
        new.first_insn_idx = self.first_insn_idx
        new.last_insn_idx = self.last_insn_idx
        new.insn_idx = self.insn_idx
        new.dfs_depth = self.dfs_depth
        new.callback_unroll_depth = self.callback_unroll_depth
        new.may_goto_depth = self.may_goto_depth
        new.equal_state = self.equal_state
        new.jmp_history = self.jmp_history[:]
        new.in_free_list = False
        new.hit_cnt = 0
        new.miss_cnt = 0
        return new

    def frame_insn_idx(self, frameno: int) -> int:
        """Return where a frame is: the current instruction, or the call that it waits for."""
        return self.insn_idx if frameno == len(self.frames) - 1 else self.frames[frameno + 1].callsite

    def same_callsites(self, other: "State") -> bool:
        """Say whether the frames were called from the same places."""
        return [frame.callsite for frame in self.frames] == [frame.callsite for frame in other.frames]


_new_state = State.__new__
