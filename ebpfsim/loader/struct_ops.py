"""Tables of functions for the kernel (struct_ops): the object's struct, and what it becomes in the kernel's layout.

Follows bpf_map__init_kern_struct_ops, bpf_object_adjust_struct_ops_autoload and bpf_map_prepare_vdata of
tools/lib/bpf/libbpf.c (libbpf 1.8). Left out: structs of kernel modules.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from ebpfsim.btf.btf import Btf, essential_name, expect
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, FuncProto, Kind, Member, Ptr, Struct
from ebpfsim.btf.values import from_bytes, to_bytes
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.elf.struct_ops import is_function_pointer
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError, NotModelled
from ebpfsim.loader.maps import ObjectMap
from ebpfsim.loader.program import Program
from ebpfsim.suggest import did_you_mean
from ebpfsim.uapi.bpf import ProgType

__all__ = ["StructOps", "prepare_struct_ops"]

VALUE_PREFIX = "bpf_struct_ops_"  # STRUCT_OPS_VALUE_PREFIX
# tables that other kernels have: the one that is modelled was built without their subsystems
OTHER_SUBSYSTEMS = {
    "sched_ext_ops": "kernel/sched/ext.c",
    "hid_bpf_ops": "drivers/hid/bpf/hid_bpf_struct_ops.c",
    "Qdisc_ops": "net/sched/bpf_qdisc.c",
}


class StructOps(MutableMapping[str, Any]):
    """One table by the names of its members: functions are programs or None, the rest values of their C types.

    Settable before load, as the shadow type of a skeleton. ``kernel_value()`` is what the map takes afterwards.
    """

    def __init__(self, map_: ObjectMap, btf: Btf, programs: Mapping[str, Program]) -> None:
        self.map = map_
        self._btf = btf
        self._struct = expect(btf, map_.spec.value_type_id, Struct)
        self._data = bytearray(map_.spec.contents)
        self._programs: dict[int, Program | None] = {i: programs[name] for i, name in map_.spec.slots.items()}
        self._declared = dict(self._programs)
        self._kernel = bytearray()
        self._places: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"<StructOps '{self.map.name}' struct {self._struct.name}>"

    # -- as a mapping ------------------------------------------------------------------------------------------------

    def _member(self, name: str) -> tuple[int, Member]:
        for i, member in enumerate(self._struct.members):
            if member.name == name:
                return i, member
        names = [member.name for member in self._struct.members]
        raise InputError(self.map.name, f"struct {self._struct.name} has no member '{name}'{did_you_mean(name, names)}")

    def __getitem__(self, name: str) -> Any:
        i, member = self._member(name)
        if is_function_pointer(self._btf, member):
            return self._programs.get(i)
        return from_bytes(self._btf, member.type_id, bytes(self._bytes(member)))

    def __setitem__(self, name: str, value: Any) -> None:
        i, member = self._member(name)
        if is_function_pointer(self._btf, member):
            if value is not None and not isinstance(value, Program):
                raise InputError(self.map.name, f"member '{name}' takes a program of the object, or None")
            self._programs[i] = value
        else:
            at = member.bit_off // 8
            data = to_bytes(self._btf, member.type_id, value, f"{self.map.name}.{name}")
            self._data[at : at + len(data)] = data

    def __delitem__(self, name: str) -> None:
        raise InputError(self.map.name, f"member '{name}' cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return (member.name for member in self._struct.members)

    def __len__(self) -> int:
        return len(self._struct.members)

    def _bytes(self, member: Member) -> bytearray:
        at = member.bit_off // 8
        return self._data[at : at + sizeof(self._btf, member.type_id)]

    # -- in the kernel -----------------------------------------------------------------------------------------------

    def uses(self, program: Program) -> int:
        """Return how many members name a program."""
        return sum(1 for other in self._programs.values() if other is program)

    def kernel_value(self) -> bytes:
        """Return the kernel's struct with the descriptors of the loaded programs."""
        for i, at in self._places.items():
            program = self._programs[i]
            if program is not None and program.loaded:
                self._kernel[at : at + 8] = program.fd.to_bytes(8, "little")
        return bytes(self._kernel)

    def fit(self, kernel: Btf) -> None:
        """Lay the table out as the kernel has it; give its programs their targets (bpf_map__init_kern_struct_ops)."""
        type_id, value_id, data_off = self._kernel_types(kernel)
        struct = expect(kernel, type_id, Composite)
        self.map.value_size = sizeof(kernel, value_id)
        self.map.btf_vmlinux_value_type_id = value_id
        self._kernel, self._places = bytearray(self.map.value_size), {}
        for i, member in enumerate(self._struct.members):
            found = next((j for j, other in enumerate(struct.members) if other.name == member.name), None)
            if found is None:
                self._absent(i, member)
                continue
            other = struct.members[found]
            if member.bitfield_bits or other.bitfield_bits:
                raise self._error(Errno.EOPNOTSUPP, f"bitfield {member.name} is not supported")
            at = data_off + other.bit_off // 8
            ours, theirs = self._btf.resolved(member.type_id), kernel.resolved(other.type_id)
            if ours.kind != theirs.kind:
                kinds = f"{ours.kind:d} != {theirs.kind:d}(kernel)"
                raise self._error(Errno.EOPNOTSUPP, f"Unmatched member type {member.name} {kinds}")
            if isinstance(theirs, Ptr):
                self._fit_function(i, member, kernel, theirs, type_id, found, at)
                continue
            data, size = self._bytes(member), sizeof(kernel, other.type_id)
            if len(data) != size:
                sizes = f"{len(data)} != {size}(kernel)"
                raise self._error(Errno.EOPNOTSUPP, f"Error in size of member {member.name}: {sizes}")
            self._kernel[at : at + size] = data

    def _kernel_types(self, kernel: Btf) -> tuple[int, int, int]:
        # ids of the struct and of the struct around it that the map holds, and the one's offset in the other
        name = essential_name(self._struct.name)
        value_id = kernel.find(VALUE_PREFIX + name, Kind.STRUCT)
        type_id = kernel.find(name, Kind.STRUCT)
        if value_id is None or type_id is None:
            if kernel is vmlinux() and name in OTHER_SUBSYSTEMS:
                raise NotModelled(f"struct_ops table {name}", OTHER_SUBSYSTEMS[name])
            missing, errno = (VALUE_PREFIX + name, Errno.ESRCH) if value_id is None else (name, Errno.ENOENT)
            raise KernelError("struct_ops init_kern", errno, f"struct {missing} is not found in kernel BTF")
        for member in expect(kernel, value_id, Composite).members:
            if member.type_id == type_id:
                return type_id, value_id, member.bit_off // 8
        detail = f"struct {name} data is not found in struct {VALUE_PREFIX}{name}"
        raise KernelError("struct_ops init_kern", Errno.EINVAL, detail)

    def _error(self, errno: Errno, detail: str) -> KernelError:
        return KernelError(f"struct_ops init_kern {self.map.name}", errno, detail)

    def _absent(self, i: int, member: Member) -> None:
        is_function = is_function_pointer(self._btf, member)
        if self._programs.get(i) is not None or (not is_function and any(self._bytes(member))):
            raise self._error(Errno.EOPNOTSUPP, f"Cannot find member {member.name} in kernel BTF")
        if (declared := self._declared.get(i)) is not None:
            declared.autoload = False

    def _fit_function(
        self, i: int, member: Member, kernel: Btf, pointer: Ptr, type_id: int, member_idx: int, at: int
    ) -> None:
        program, declared = self._programs.get(i), self._declared.get(i)
        if declared is not None and declared is not program:
            declared.autoload = False
        is_function = is_function_pointer(self._btf, member)
        if program is None and (is_function or not any(self._bytes(member))):
            return
        if program is None or program.type != ProgType.STRUCT_OPS:
            raise self._error(Errno.EOPNOTSUPP, f"member {member.name} is not a struct_ops program")
        if not isinstance(kernel.resolved(pointer.type_id), FuncProto):
            raise self._error(Errno.EOPNOTSUPP, f"kernel member {member.name} is not a func ptr")
        if not program.attach_btf_id:
            program.attach_btf_id, program.expected_attach_type = type_id, member_idx
        if (program.attach_btf_id, program.expected_attach_type) != (type_id, member_idx):
            detail = f"func ptr {member.name}: invalid reuse of prog {program.name} in sec {program.section}"
            raise self._error(Errno.EINVAL, detail)
        self._places[i] = at


def prepare_struct_ops(tables: Iterable[StructOps], programs: Iterable[Program], kernel: Btf) -> None:
    """Fit the tables that are created to a kernel; programs load when one of those names them."""
    tables = list(tables)
    for table in tables:
        if table.map.autocreate:
            table.fit(kernel)
    for program in programs:
        if program.type == ProgType.STRUCT_OPS and any(table.uses(program) for table in tables):
            program.autoload = any(table.uses(program) and table.map.autocreate for table in tables)
