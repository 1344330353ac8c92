"""BPF_MAP_TYPE_STRUCT_OPS: a structure of functions that programs implement (kernel/bpf/bpf_struct_ops.c, v6.18).

One element, whose type is ``struct bpf_struct_ops_<name>`` of the kernel's BTF. It starts out empty; filling it in
makes a table of functions, which the kernel registers at once, or with a link when the map has BPF_F_LINK. User space
reads back what it wrote, with ids of programs in the place of descriptors, the state and the number of users.
"""

from enum import IntEnum
from functools import cache
from struct import Struct
from typing import Protocol

from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, FuncProto, Kind, Member, Ptr
from ebpfsim.btf.types import Struct as StructType
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, KernelError, NotModelled
from ebpfsim.maps.map import Map, MapAttr, MapEnv
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.flags import BPF_F_LINK

__all__ = ["OpsTable", "StructOpsMap", "StructOpsState", "is_function", "struct_ops_errno"]

_U32 = Struct("<I")
_HEAD = Struct("<II")  # struct bpf_struct_ops_common_value
PREFIX = "bpf_struct_ops_"
# what register_bpf_struct_ops() knows in the modelled configuration
STRUCT_OPS = ("bpf_dummy_ops", "tcp_congestion_ops")


class StructOpsState(IntEnum):
    """``enum bpf_struct_ops_state``."""

    INIT = 0
    INUSE = 1
    TOBEFREE = 2
    READY = 3


class OpsTable(Protocol):
    """A table of functions that was made of a map's value (``kvalue`` of struct bpf_struct_ops_map)."""

    def register(self) -> None:
        """Give it to its subsystem; KernelError when that refuses."""
        ...

    def unregister(self) -> None:
        """Take it from its subsystem; cannot fail."""
        ...

    def release(self) -> None:
        """Let go of the programs and of the code around them."""
        ...


class OpsMaker(Protocol):
    """What makes tables: the hooks of the kernel around."""

    def make(self, map_: "StructOpsMap", value: bytearray) -> OpsTable | None:
        """Return the table of a value, in which ids take the place of descriptors.

        None for a value that Linux drops without saying so; KernelError when a member is refused.
        """
        ...


def struct_ops_errno(attr: MapAttr) -> int:
    """Return what is wrong with the type that a map is to hold: ENOTSUPP, EINVAL or 0."""
    try:
        type_ = vmlinux().type(attr.btf_vmlinux_value_type_id)
    except BtfError:
        return Errno.ENOTSUPP
    if not isinstance(type_, StructType) or type_.name not in [PREFIX + name for name in STRUCT_OPS]:
        return Errno.ENOTSUPP
    return Errno.EINVAL if attr.value_size != type_.size else 0


def is_function(member: Member) -> bool:
    """Tell whether a member of a kernel's structure is a function."""
    pointer = vmlinux().resolved(member.type_id)
    return isinstance(pointer, Ptr) and isinstance(vmlinux().resolved(pointer.type_id), FuncProto)


@cache
def _holes(type_id: int) -> tuple[tuple[int, int], ...]:
    # the parts of a structure that belong to no member, as check_zero_holes() finds them
    btf = vmlinux()
    type_ = btf.type(type_id)
    assert isinstance(type_, Composite)
    found, end = [], 0
    for member in type_.members:
        start = member.bit_off // 8
        if start > end:
            found.append((end, start))
        end = start + sizeof(btf, member.type_id)
    return (*found, (end, type_.size)) if type_.size > end else tuple(found)


class StructOpsMap(Map):
    """A structure of functions. ``table`` is what was made of it, ``struct_name`` its type, ``ops_off`` its place.

    ``kvalue`` is the address of the kernel's own copy, in which functions are addresses.
    """

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        btf = vmlinux()
        value_type = btf.type(attr.btf_vmlinux_value_type_id)
        assert isinstance(value_type, Composite)
        self.struct_name = value_type.name.removeprefix(PREFIX)
        self.struct_id = btf.by_name(self.struct_name, Kind.STRUCT)
        self.ops_off = next(member.bit_off // 8 for member in value_type.members if member.name == "data")
        self.kvalue = self._alloc_area(self.value_size)
        self.state = StructOpsState.INIT
        self.table: OpsTable | None = None
        self.maker: OpsMaker | None = None
        self._uvalue = bytes(self.value_size)

    @property
    def nr_functions(self) -> int:
        """How many functions its structure has, whoever implements them."""
        struct = vmlinux().type(self.struct_id)
        assert isinstance(struct, Composite)
        return sum(is_function(member) for member in struct.members)

    @property
    def valid_to_reg(self) -> bool:
        """Whether a link may register it (bpf_struct_ops_valid_to_reg)."""
        return bool(self.map_flags & BPF_F_LINK) and self.state is StructOpsState.READY

    def prog_by_fd(self, fd: int) -> KernelObject:
        """Return the program behind a descriptor; KernelError EBADF or EINVAL when there is none."""
        assert self._env is not None
        return self._env.prog_by_fd(fd)

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: only user space fills it in."""
        return -Errno.EINVAL

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs do not read it."""
        return -Errno.EINVAL

    def delete_elem(self, key: bytes) -> int:
        """Unregister: EOPNOTSUPP when a link is to do that, ENOENT before it was registered, EINPROGRESS after."""
        if self.map_flags & BPF_F_LINK:
            return -Errno.EOPNOTSUPP
        if self.state is not StructOpsState.INUSE:
            return -Errno.EINPROGRESS if self.state is StructOpsState.TOBEFREE else -Errno.ENOENT
        self._set_state(StructOpsState.TOBEFREE)
        assert self.table is not None
        self.table.unregister()
        self.put()
        return 0

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the only key, 0."""
        return None if key == bytes(4) else bytes(4)

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the structure with ids of programs; zeroes while there is none."""
        if key != bytes(4):
            raise KernelError("map_lookup_elem", Errno.ENOENT, self._who())
        if self.state is StructOpsState.INIT:
            return bytes(self.value_size)
        users = max(self.refs - self.user_refs, 0)
        return _HEAD.pack(users, self.state) + self._uvalue[_HEAD.size :]

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Make the table and register it, or let it be ready for links (bpf_struct_ops_map_update_elem)."""
        assert key is not None
        self._check(key, value, flags)
        if self.maker is None:
            raise NotModelled("filling in a struct_ops map of no kernel", "kernel/bpf/bpf_struct_ops.c")
        uvalue = bytearray(value)
        table = self.maker.make(self, uvalue)
        if table is None:
            return
        by_link = bool(self.map_flags & BPF_F_LINK)
        if not by_link:
            try:
                table.register()
            except KernelError:
                table.release()
                raise
            self.get()
        self.table, self._uvalue = table, bytes(uvalue)
        self._set_state(StructOpsState.READY if by_link else StructOpsState.INUSE)

    def _check(self, key: bytes, value: bytes, flags: int) -> None:
        op = "map_update_elem"
        if flags:
            self._raise(op, -Errno.EINVAL, key)
        if _U32.unpack(key)[0]:
            self._raise(op, -Errno.E2BIG, key)
        holes = [(0, *hole) for hole in _holes(self.attr.btf_vmlinux_value_type_id)]
        holes += [(self.ops_off, *hole) for hole in _holes(self.struct_id)]
        # refcount and state are the kernel's
        if any(value[: _HEAD.size]) or any(any(value[off + start : off + end]) for off, start, end in holes):
            self._raise(op, -Errno.EINVAL, key)
        if self.state is not StructOpsState.INIT:
            self._raise(op, -Errno.EBUSY, key)

    def _set_state(self, state: StructOpsState) -> None:
        self.state = state
        self.mem.store(self.kvalue + 4, 4, state)

    def on_release(self) -> None:
        """Let go of the programs, then as all maps."""
        if self.table is not None:
            self.table.release()
        super().on_release()
