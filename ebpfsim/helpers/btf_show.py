"""Structures of the kernel as text: bpf_snprintf_btf() and bpf_seq_printf_btf() (btf_type_show() and what it calls,
kernel/bpf/btf.c, v6.18).

What is zero is left out unless it is asked for: an aggregate is walked once to see whether it has anything to show, and
then again. Names of functions and of the walk's state are the kernel's.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Array, Enum, Int, Kind, Member, Modifier, Ptr, Struct, Type, Typedef, Union
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelOops
from ebpfsim.helpers.bprintf import bprintf
from ebpfsim.helpers.seq import append
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS", "Show", "show_type"]

# include/uapi/linux/bpf.h
BTF_F_COMPACT, BTF_F_NONAME, BTF_F_PTR_RAW, BTF_F_ZERO, BTF_F_ALL = 1, 2, 4, 8, 15
BTF_PTR_BYTES = 16  # sizeof(struct btf_ptr)
MAX_ITER = 10  # BTF_SHOW_MAX_ITER
MAX_INDENT = 32
NAME_BYTES = 80  # BTF_SHOW_NAME_SIZE
INT_CHAR = 2  # BTF_INT_CHAR
_SIZED = (Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.DATASEC, Kind.FLOAT, Kind.ENUM64)


@dataclass(slots=True)
class _State:
    depth: int = 0
    depth_to_show: int = 0
    depth_check: int = 0
    array_member: bool = False
    array_terminated: bool = False
    array_encoding: int = 0
    type_id: int = 0
    type: Type | None = None
    member: Member | None = None
    status: int = 0


class Show:
    """One object being shown: ``text`` is what came of it, ``state.status`` the errno of memory that is not there."""

    def __init__(self, mem: Memory, flags: int, pointer: Callable[[int], str]) -> None:
        self.mem, self.flags, self.btf = mem, flags, vmlinux()
        self.pointer = pointer
        self.state = _State()
        self.text: list[str] = []

    def put(self, text: str) -> None:
        """Add text, unless this is the walk that only looks (btf_show)."""
        if not self.state.depth_check:
            self.text.append(text)

    def indent(self) -> str:
        """Return the blanks in front of a line."""
        return "" if self.flags & BTF_F_COMPACT else " " * min(self.state.depth, MAX_INDENT)

    def newline(self) -> str:
        """Return what ends a line."""
        return "" if self.flags & BTF_F_COMPACT else "\n"

    def delim(self) -> str:
        """Return what stands behind a value."""
        if not self.state.depth:
            return ""
        kind = self.state.type.kind if self.state.type is not None else None
        return "|" if self.flags & BTF_F_COMPACT and kind == Kind.UNION else ","

    def value(self, text: str, is_zero: bool) -> None:
        """Show a value, unless it is zero and nobody wants to see that (btf_show_type_value)."""
        state = self.state
        if not is_zero or self.flags & BTF_F_ZERO or not state.depth:
            self.put(f"{self.indent()}{self.name()}{text}{self.delim()}{self.newline()}")
            state.depth_to_show = max(state.depth_to_show, state.depth)

    def name(self) -> str:
        """Return ``.member = (type)`` with what opens the value (btf_show_name)."""
        state, member = self.state, self.state.member
        if state.array_member:
            return ""
        type_id = member.type_id if member is not None else state.type_id
        type_: Type | None = self.btf.type(type_id)
        name, parens, stars, arrays, kinds = "", "", 0, 0, set()
        for _ in range(MAX_ITER):
            match type_:
                case Typedef():
                    name = name or type_.name
                    type_id = type_.type_id
                case Array():
                    parens, arrays, type_id = "[", arrays + 1, type_.type_id
                case Ptr():
                    stars, type_id = stars + 1, type_.type_id
                case _:
                    type_id = 0
            if type_ is not None:
                kinds.add(type_.kind)
            if not type_id:
                break
            type_ = _skip_qualifiers(self.btf, type_id)
        else:
            return ""
        kind = type_.kind if type_ is not None else None
        name = name or getattr(type_, "name", "")
        prefix = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}.get(kind, "")  # type: ignore[arg-type]
        if kind in (Kind.STRUCT, Kind.UNION) and Kind.ARRAY not in kinds:
            parens = "{"
        if stars:
            parens = ""
        if Kind.TYPEDEF in kinds:
            prefix = ""
        if self.flags & BTF_F_NONAME:
            return parens
        shown = f".{member.name} = " if member is not None and member.name else ""
        space = " " if prefix and name else ""
        pointers = f" {'*' * stars}" if stars else ""
        return f"{shown}({prefix}{space}{name}{pointers}{'[]' * arrays}){parens}"[: NAME_BYTES - 1]

    def start(self, type_: Type, type_id: int, address: int, size: int) -> bytes | None:
        """Begin with a value; its bytes, None where there is no memory (btf_show_start_type, btf_show_obj_safe)."""
        self.state.type, self.state.type_id = type_, type_id
        try:
            return self.mem.read(address, size) if size else b""
        except KernelOops:
            self.state.status = -Errno.EFAULT
            return None

    def end(self) -> None:
        """End with a value (btf_show_end_type)."""
        self.state.type, self.state.type_id = None, 0

    def start_aggregate(self, type_: Type, type_id: int, address: int, size: int) -> bool:
        """Begin with a structure or an array."""
        if self.start(type_, type_id, address, size) is None:
            return False
        self.put(f"{self.indent()}{self.name()}{self.newline()}")
        self.state.depth += 1
        return True

    def end_aggregate(self, suffix: str) -> None:
        """End with a structure or an array."""
        self.state.depth -= 1
        self.put(f"{self.indent()}{suffix}{self.delim()}{self.newline()}")
        self.end()


def _skip_qualifiers(btf: Btf, type_id: int) -> Type:
    type_ = btf.type(type_id)
    while isinstance(type_, Modifier) and not isinstance(type_, Typedef):
        type_ = btf.type(type_.type_id)
    return type_


def _size(type_: Type) -> int:
    return int(getattr(type_, "size", 0)) if type_.kind in _SIZED else 0


def show_type(show: Show, type_id: int, address: int, type_: Type | None = None) -> None:
    """Show an object of a type (``btf_type_ops(t)->show``)."""
    type_ = type_ if type_ is not None else show.btf.type(type_id)
    if isinstance(type_, Modifier):
        show_type(show, type_id, address, show.btf.resolved(type_id))
    elif isinstance(type_, Int):
        _int(show, type_, type_id, address)
    elif isinstance(type_, Enum):
        _enum(show, type_, type_id, address)
    elif isinstance(type_, Ptr):
        _ptr(show, type_, type_id, address)
    elif isinstance(type_, Struct | Union):
        _walked(show, lambda: _struct(show, type_, type_id, address))
    elif isinstance(type_, Array):
        _walked(show, lambda: _array(show, type_, type_id, address))
    else:
        show.put(f"<unsupported kind:{int(type_.kind)}>")


def _walked(show: Show, walk: Callable[[], None]) -> None:
    # btf_struct_show() and btf_array_show(): first whether any member would be shown
    state, member = show.state, show.state.member
    if state.depth > 0 and not show.flags & BTF_F_ZERO:
        if not state.depth_check:
            state.depth_check, state.depth_to_show = state.depth + 1, 0
        walk()
        state.member = member
        if state.depth_check != state.depth + 1:
            return
        state.depth_check = 0
        if state.depth_to_show <= state.depth:
            return
    walk()


def _struct(show: Show, type_: Struct | Union, type_id: int, address: int) -> None:
    if not show.start_aggregate(type_, type_id, address, type_.size):
        return
    for member in type_.members:
        show.state.member = member
        at, bit = address + member.bit_off // 8, member.bit_off % 8
        if member.bitfield_bits:
            _bits(show, show.btf.type(member.type_id), member.type_id, at, bit, member.bitfield_bits)
        else:
            show_type(show, member.type_id, at)
        show.state.member = None
    show.end_aggregate("}")


def _array(show: Show, type_: Array, type_id: int, address: int) -> None:
    element, state = show.btf.resolved(type_.type_id), show.state
    # of pointers no size is known: all elements are the first one
    size = _size(element)
    encoding = (INT_CHAR if size == 1 else element.encoding) if isinstance(element, Int) else 0
    state.array_encoding, state.array_terminated = encoding, False
    if not show.start_aggregate(type_, type_id, address, size * type_.nelems):
        return
    for _ in range(type_.nelems):
        state.array_member = True
        show_type(show, type_.type_id, address, element)
        address += size
        state.array_member = False
        if state.array_terminated:
            break
    state.array_encoding, state.array_terminated = 0, False
    show.end_aggregate("]")


def _bits(show: Show, type_: Type, type_id: int, address: int, bit: int, bits: int) -> None:
    # btf_bitfield_show()
    data = show.start(type_, type_id, address, -(-(bit + bits) // 8))
    if data is not None:
        value = int.from_bytes(data, "little") >> bit & (1 << bits) - 1
        show.value(_hex128(value), not value)
    show.end()


def _hex128(value: int) -> str:
    high, low = divmod(value, 1 << 64)
    return f"{high:#x}{low:016x}" if high else f"{low:#x}"


def _int(show: Show, type_: Int, type_id: int, address: int) -> None:
    if type_.bit_off or type_.bits % 8:
        _bits(show, type_, type_id, address, type_.bit_off, type_.bits)
        return
    data = show.start(type_, type_id, address, type_.bits // 8)
    if data is not None:
        _int_value(show, type_, data)
    show.end()


def _int_value(show: Show, type_: Int, data: bytes) -> None:
    state = show.state
    if type_.bits == 8 and state.array_encoding == INT_CHAR:
        if state.array_terminated:
            return
        if data == b"\0":
            state.array_terminated = True
            return
        # isprint() of lib/ctype.c knows Latin-1
        if 32 <= data[0] < 127 or data[0] >= 160:
            show.value(f"'{chr(data[0])}'", False)
            return
    value = int.from_bytes(data, "little", signed=type_.signed and type_.bits <= 64)
    show.value(_hex128(value) if type_.bits == 128 else str(value), not value)


def _enum(show: Show, type_: Enum, type_id: int, address: int) -> None:
    # what is smaller than an int is read as one, with what lies behind it
    data = show.start(type_, type_id, address, 8 if type_.kind == Kind.ENUM64 else 4)
    if data is not None:
        value = int.from_bytes(data, "little", signed=bool(type_.signed))
        names = [each.name for each in type_.values if each.value == value]
        show.value(names[0] if names else str(value), not names and not value)
    show.end()


def _ptr(show: Show, type_: Ptr, type_id: int, address: int) -> None:
    data = show.start(type_, type_id, address, 8)
    if data is not None:
        value = int.from_bytes(data, "little")
        show.value(f"0x{value:016x}" if show.flags & BTF_F_PTR_RAW else f"0x{show.pointer(value)}", not value)
    show.end()


def _shown(run: Run, ptr: int, size: int, flags: int) -> tuple[str, int]:
    # bpf_btf_printf_prepare(), btf_type_show(): the text and an errno
    if flags & ~BTF_F_ALL or u32(size) != BTF_PTR_BYTES:
        return "", -Errno.EINVAL
    address, type_id = run.mem.load(ptr, 8), s32(run.mem.load(ptr + 8, 4))
    if type_id <= 0:
        return "", -Errno.EINVAL
    if type_id >= vmlinux().nr_types:
        return "", -Errno.ENOENT
    show = Show(run.mem, flags, lambda value: bprintf(run.mem, b"%p", (value,), run.kernel.rng.seed).decode())
    show_type(show, type_id, address)
    return "".join(show.text), show.state.status


def snprintf_btf(run: Run, text: int, text_size: int, ptr: int, ptr_size: int, flags: int) -> int:
    """Print an object into memory, cut to ``text_size`` bytes with the NUL: how long all of it is, or an errno."""
    shown, errno = _shown(run, ptr, ptr_size, flags)
    if errno and not shown:
        return errno
    data, room = shown.encode("latin-1"), u32(text_size)
    if room:
        run.mem.write(text, data[: room - 1] + b"\0")
    return errno or len(data)


def seq_printf_btf(run: Run, seq: int, ptr: int, ptr_size: int, flags: int, _r5: int) -> int:
    """Append an object to what an iterator writes: 0, or an errno."""
    shown, errno = _shown(run, ptr, ptr_size, flags)
    if errno:
        return errno
    data = shown.encode("latin-1")
    return append(run.mem, seq, data, len(data))


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_snprintf_btf"]: snprintf_btf,
    HELPER_IDS["bpf_seq_printf_btf"]: seq_printf_btf,
}
