"""Debug mode: closures before memory accesses, and where functions begin and end, that ask the table of objects.

The accesses themselves stay as they are; nothing of this is there when ``KernelConfig.debug`` is off. Loads that give 0
where they fault are not checked: they may go anywhere.
"""

from collections.abc import Sequence

from ebpfsim.cpu import STACK_BYTES
from ebpfsim.errors import KernelOops
from ebpfsim.isa.alu import M64
from ebpfsim.isa.insn import Insn
from ebpfsim.isa.table import Form, Row
from ebpfsim.memory import Memory
from ebpfsim.memory.objects import Objects
from ebpfsim.vm.mem_ops import Place
from ebpfsim.vm.state import RUN, Op, State

__all__ = ["access_check", "base_register", "enter_check", "frame_depth", "is_checked", "leave_check", "object_fault"]

_PROBES = (Form.PROBE_LDX, Form.PROBE_LDSX, Form.ARENA)
_READS = (Form.LDX, Form.LDSX, Form.LOAD_ACQUIRE)
REDZONE = 16  # bytes between the frames of two functions, a multiple of the alignment of frames


def is_checked(row: Row) -> bool:
    """Tell whether accesses of a row are checked in debug mode."""
    return bool(row.size) and row.form not in _PROBES


def base_register(row: Row, insn: Insn) -> int:
    """Return the register that an access starts from."""
    return insn.src if row.form in _READS else insn.dst


def frame_depth(depth: int) -> int:
    """Return the bytes of a function's frame that count as an object."""
    return (depth + 7) & ~7


def access_check(row: Row, insn: Insn, mem: Memory, place: Place, *, strict: bool) -> Op:
    """Raise KernelOops unless the access stays in one live object (``Objects.allows``)."""
    reg, off, size, objects = base_register(row, insn), insn.off, row.size, mem.track()
    allows = objects.allows

    def op(state: State) -> None:
        base = state[reg]
        if not allows(base, base + off & M64, size, strict):
            raise object_fault(objects, row, insn, state, place, strict=strict)

    return op


def object_fault(
    objects: Objects, row: Row, insn: Insn, registers: Sequence[int], place: Place, *, strict: bool
) -> KernelOops:
    """Return the oops for an access that leaves its object, or that has none."""
    base = registers[base_register(row, insn)]
    address = base + insn.off & M64
    report = objects.report(base, address, row.size, strict)
    kind = "read" if row.form in _READS else "write"
    reason = f"{report.bug}: {kind} of {row.size} bytes"
    return KernelOops(reason, place[0], place[1], address, report.about)


def enter_check(mem: Memory, depth: int) -> Op:
    """Make the frame of a function that begins here an object."""
    objects, depth = mem.track(), frame_depth(depth)

    def op(state: State) -> None:
        cpu = state[RUN].cpu
        objects.enter_frame(cpu.stack_base, STACK_BYTES, cpu.stack_top, state[10], depth)

    return op


def leave_check(mem: Memory) -> Op:
    """Take the frame of the function that returns here away."""
    objects = mem.track()

    def op(state: State) -> None:
        cpu = state[RUN].cpu
        objects.leave_frame(cpu.stack_base, STACK_BYTES, cpu.stack_top)

    return op
