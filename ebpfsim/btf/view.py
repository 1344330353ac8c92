"""Structures of the simulated kernel in its RAM, read and written by their C names.

::

    class TaskStruct(KernelStruct):
        struct_name = "task_struct"
        pid = Field()                            # the member of that name
        kernel_cpu = Field("thread_info.cpu")    # a path through structures and arrays

    task = TaskStruct.alloc(mem)
    task.pid = 42

The layout is that of the kernel's BTF, so programs that read the same members find the same bytes. Places are looked
up when a field is first used.
"""

from functools import cache
from struct import Struct, error
from typing import ClassVar, Self, overload

from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.types import Enum, Int, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from ebpfsim.memory.arena import KERNEL_BASE

__all__ = ["Field", "KernelStruct", "Text", "place", "size_of"]

# unsigned numbers by their size, as struct names them; the lower case ones are signed
_INTS = {1: "B", 2: "H", 4: "I", 8: "Q"}


@cache
def size_of(struct: str) -> int:
    """Return the size of a structure in bytes."""
    return sizeof(vmlinux(), vmlinux().by_name(struct, Kind.STRUCT))


@cache
def _what(struct: str) -> str:
    return f"struct {struct}"


@cache
def place(struct: str, path: str) -> tuple[int, int]:
    """Return offset and size in bytes of a member, by its C path."""
    btf = vmlinux()
    found = member_place(btf, struct, path)
    if found.bit_off % 8 or found.bitfield_bits:
        raise InternalError(f"member '{path}' of struct {struct} is a bit field")
    return found.bit_off // 8, sizeof(btf, found.type_id)


class Field:
    """An integer, enumeration or pointer: read as an unsigned number unless its C type is signed."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._place: tuple[int, Struct, int, int, int] | None = None

    def __set_name__(self, owner: "type[KernelStruct]", name: str) -> None:
        self.path = self.path or name
        self._struct = owner.struct_name
        self._owner, self._name = owner, name

    def _look_up(self) -> tuple[int, Struct, int, int, int]:
        # offset, what packs it, what numbers are cut to, shift and bits of a bit field
        btf = vmlinux()
        found = member_place(btf, self._struct, self.path)
        type_ = btf.resolved(found.type_id)
        size = sizeof(btf, found.type_id)
        if size not in _INTS:
            raise InternalError(f"member '{self.path}' of struct {self._struct} is no number")
        signed = isinstance(type_, Int | Enum) and bool(type_.signed)
        bits = found.bitfield_bits
        offset = found.bit_off // 8
        if bits:
            # the bytes around it, from an aligned address on
            offset = found.bit_off // (8 * size) * size
        packed = Struct("<" + (_INTS[size].lower() if signed and not bits else _INTS[size]))
        self._place = offset, packed, (1 << 8 * size) - 1, found.bit_off - 8 * offset, -bits if signed else bits
        if not bits:
            # from now on this does it: most of what system calls cost was here
            setattr(self._owner, self._name, _number(offset, packed, (1 << 8 * size) - 1))
        return self._place

    @overload
    def __get__(self, struct: None, owner: type) -> "Field": ...
    @overload
    def __get__(self, struct: "KernelStruct", owner: type) -> int: ...
    def __get__(self, struct: "KernelStruct | None", owner: type) -> "int | Field":
        if struct is None:
            return self
        # structures of the kernel are always mapped: no look into the page table
        offset, packed, _, shift, bits = self._place or self._look_up()
        value: int = packed.unpack_from(struct.mem.buf, (struct.address ^ KERNEL_BASE) + offset)[0]
        if not bits:
            return value
        width = abs(bits)
        value = value >> shift & (1 << width) - 1
        return value - (1 << width) if bits < 0 and value >> (width - 1) else value

    def __set__(self, struct: "KernelStruct", value: int) -> None:
        offset, packed, cut, shift, bits = self._place or self._look_up()
        at = (struct.address ^ KERNEL_BASE) + offset
        if bits:
            mask = (1 << abs(bits)) - 1 << shift
            value = packed.unpack_from(struct.mem.buf, at)[0] & ~mask | value << shift & mask
        try:
            packed.pack_into(struct.mem.buf, at, value)
        except error:
            # too large, or of the other sign: the low bytes
            struct.mem.buf[at : at + packed.size] = (value & cut).to_bytes(packed.size, "little")


def _number(offset: int, packed: Struct, cut: int) -> property:
    unpack, pack = packed.unpack_from, packed.pack_into

    def get(struct: "KernelStruct") -> int:
        value: int = unpack(struct._buf, struct._at + offset)[0]
        return value

    def put(struct: "KernelStruct", value: int) -> None:
        try:
            pack(struct._buf, struct._at + offset, value)
        except error:
            # too large, or of the other sign: the low bytes
            at = struct._at + offset
            struct._buf[at : at + packed.size] = (value & cut).to_bytes(packed.size, "little")

    return property(get, put)


class Text:
    """An array of characters that ends in a NUL; what does not fit is cut (``strscpy_pad``)."""

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._place: tuple[int, int] | None = None

    def __set_name__(self, owner: "type[KernelStruct]", name: str) -> None:
        self.path = self.path or name
        self._struct = owner.struct_name

    def _look_up(self) -> tuple[int, int]:
        self._place = place(self._struct, self.path)
        return self._place

    @overload
    def __get__(self, struct: None, owner: type) -> "Text": ...
    @overload
    def __get__(self, struct: "KernelStruct", owner: type) -> str: ...
    def __get__(self, struct: "KernelStruct | None", owner: type) -> "str | Text":
        if struct is None:
            return self
        offset, size = self._place or self._look_up()
        return struct.mem.read(struct.address + offset, size).partition(b"\0")[0].decode(errors="replace")

    def __set__(self, struct: "KernelStruct", value: str) -> None:
        offset, size = self._place or self._look_up()
        struct.mem.write(struct.address + offset, value.encode()[: size - 1].ljust(size, b"\0"))


class KernelStruct:
    """A structure at an address of the simulated RAM. Subclasses name it and the members that the model uses."""

    __slots__ = ("_at", "_buf", "address", "mem")

    struct_name: ClassVar[str] = ""

    def __init__(self, mem: Memory, address: int) -> None:
        self.mem = mem
        self.address = address
        # structures of the kernel are always mapped: no look into the page table
        self._buf, self._at = mem.buf, address ^ KERNEL_BASE

    @classmethod
    def alloc(cls, mem: Memory) -> Self:
        """Return a new structure of zeroes."""
        name = cls.struct_name
        return cls(mem, mem.alloc(size_of(name), what=_what(name)))

    @classmethod
    def member(cls, path: str) -> tuple[int, int]:
        """Return offset and size of any member, by its C path."""
        return place(cls.struct_name, path)

    def member_address(self, path: str) -> int:
        """Return where a member lies."""
        return self.address + self.member(path)[0]

    def free(self) -> None:
        """Give the memory back."""
        self.mem.free(self.address)
