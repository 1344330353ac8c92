"""Debug mode: helpers that look at their memory arguments first, as KASAN does for the helpers of a kernel.

What an argument is and how long its memory is stand in the helper's prototype: the size in the argument behind it, the
map's key or value, a fixed size, or up to the NUL of a string. Addresses for probe reads are numbers there, so they may
point anywhere.
"""

from collections.abc import Callable, Mapping

from ebpfsim.errors import KernelOops
from ebpfsim.helpers.protos import (
    ARG_CONST_MAP_PTR,
    ARG_CONST_SIZE,
    ARG_CONST_SIZE_OR_ZERO,
    ARG_PTR_TO_CONST_STR,
    ARG_PTR_TO_CTX,
    ARG_PTR_TO_DYNPTR,
    ARG_PTR_TO_MAP_KEY,
    ARG_PTR_TO_MAP_VALUE,
    ARG_PTR_TO_MEM,
    ARG_PTR_TO_RINGBUF_MEM,
    ARG_PTR_TO_SPIN_LOCK,
    ARG_PTR_TO_TIMER,
    PROTOS,
    Proto,
)
from ebpfsim.isa.alu import u32
from ebpfsim.memory.objects import Objects
from ebpfsim.progs.regtypes import BASE_TYPE_MASK, MEM_FIXED_SIZE, MEM_WRITE, PTR_MAYBE_NULL
from ebpfsim.progs.runtime import Helper, Run

__all__ = ["checked_helpers"]

# from the activation and R1..R5: how many bytes of memory an argument needs
_Size = Callable[[Run, tuple[int, ...]], int]
# struct bpf_spin_lock, bpf_timer and bpf_dynptr of include/uapi/linux/bpf.h; of contexts and records the first byte
_FIXED = {
    ARG_PTR_TO_SPIN_LOCK: 4, ARG_PTR_TO_TIMER: 16, ARG_PTR_TO_DYNPTR: 16, ARG_PTR_TO_CTX: 1, ARG_PTR_TO_RINGBUF_MEM: 1,
}  # fmt: skip


def checked_helpers(helpers: Mapping[int, Helper]) -> dict[int, Helper]:
    """Return helpers that raise KernelOops for memory arguments that are not in one live object."""
    return {number: _checked(number, helper) for number, helper in helpers.items()}


def _checked(number: int, helper: Helper) -> Helper:
    proto = PROTOS.get(number)
    if proto is None:
        return helper
    arguments = [(at, size, arg) for at, arg in enumerate(proto.args) if (size := _size_of(proto, at)) is not None]
    if not arguments:
        return helper

    def checked(run: Run, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        objects, registers = run.mem.objects, (r1, r2, r3, r4, r5)
        if objects is not None:
            for at, size, arg in arguments:
                address = registers[at]
                if address or not arg & PTR_MAYBE_NULL:
                    _check(objects, address, size(run, registers), (proto, at, "write" if arg & MEM_WRITE else "read"))
        return helper(run, r1, r2, r3, r4, r5)

    return checked


def _check(objects: Objects, address: int, size: int, who: tuple[Proto, int, str]) -> None:
    if not size or objects.holds(address, size):
        return
    proto, at, kind = who
    report = objects.report(address, address, size, strict=True)
    reason = f"{report.bug}: {kind} of {size} bytes by {proto.name}(), argument {at + 1}"
    raise KernelOops(reason, address=address, about=report.about)


def _size_of(proto: Proto, at: int) -> _Size | None:
    arg, base = proto.args[at], proto.args[at] & BASE_TYPE_MASK
    following = proto.args[at + 1] & BASE_TYPE_MASK if at + 1 < len(proto.args) else 0
    if base in (ARG_PTR_TO_MAP_KEY, ARG_PTR_TO_MAP_VALUE):
        # of the map among the arguments in front, which is not always the first
        bases = [other & BASE_TYPE_MASK for other in proto.args[:at]]
        map_at = bases.index(ARG_CONST_MAP_PTR)
        if base == ARG_PTR_TO_MAP_KEY:
            return lambda run, registers: run.kernel.map_at(registers[map_at]).key_size
        return lambda run, registers: run.kernel.map_at(registers[map_at]).value_size
    if base == ARG_PTR_TO_CONST_STR:
        return lambda run, registers: _string_bytes(run, registers[at])
    if base == ARG_PTR_TO_MEM and arg & MEM_FIXED_SIZE:
        fixed = proto.arg_sizes[at]
        return lambda _run, _registers: fixed
    if base == ARG_PTR_TO_MEM and following in (ARG_CONST_SIZE, ARG_CONST_SIZE_OR_ZERO):
        return lambda _run, registers: u32(registers[at + 1])
    if base in _FIXED:
        smallest = _FIXED[base]
        return lambda _run, _registers: smallest
    return None


def _string_bytes(run: Run, address: int) -> int:
    # up to the NUL; where there is none before the object ends, one byte more than the object has
    objects, size = run.mem.objects, 1
    while objects is not None and objects.holds(address, size) and run.mem.load(address + size - 1, 1):
        size += 1
    return size
