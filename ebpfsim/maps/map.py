"""What every map is: attributes, a ``struct bpf_map`` in RAM, and the operations of programs and of user space."""

from dataclasses import dataclass

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.memory import Memory
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType

__all__ = ["Map", "MapAttr"]

# sizeof(struct bpf_map) in the BTF of Linux 6.18 is below this; programs see only its address
STRUCT_BPF_MAP_BYTES = 256


@dataclass(frozen=True, slots=True)
class MapAttr:
    """The attributes of BPF_MAP_CREATE, by their names in ``union bpf_attr``; sizes in bytes."""

    map_type: MapType
    key_size: int
    value_size: int
    max_entries: int
    map_flags: int = 0
    map_name: str = ""
    inner_map_fd: int = 0
    map_extra: int = 0
    btf_fd: int = 0
    btf_key_type_id: int = 0
    btf_value_type_id: int = 0
    btf_vmlinux_value_type_id: int = 0


class Map(KernelObject):
    """A map. Subclasses keep their state in simulated RAM, so that programs, helpers and user space see the same bytes.

    The program side returns what helpers return: an address or 0, an errno as a negative number. The user side
    (``sys_*``) takes and returns bytes and raises KernelError.
    """

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int) -> None:
        super().__init__()
        self.attr = attr
        self.mem = mem
        self.nr_cpus = nr_cpus
        self.frozen = False
        self.address = mem.alloc(STRUCT_BPF_MAP_BYTES)

    @property
    def name(self) -> str:
        """The name given at creation, at most 15 characters."""
        return self.attr.map_name

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the value for a key as seen on a CPU, or 0."""
        raise NotImplementedError

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set a value; 0 or a negative errno."""
        raise NotImplementedError

    def delete_elem(self, key: bytes) -> int:
        """Remove a key; 0 or a negative errno."""
        raise NotImplementedError

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the key after ``key`` (the first one for None or an unknown key), or None at the end."""
        raise NotImplementedError

    def sys_lookup(self, key: bytes, flags: int = 0) -> bytes:
        """BPF_MAP_LOOKUP_ELEM: the value's bytes; per-CPU maps give each CPU's, rounded up to 8 bytes."""
        raise KernelError("map_lookup_elem", Errno.EOPNOTSUPP)

    def sys_update(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """BPF_MAP_UPDATE_ELEM."""
        raise KernelError("map_update_elem", Errno.EOPNOTSUPP)

    def sys_delete(self, key: bytes) -> None:
        """BPF_MAP_DELETE_ELEM."""
        raise KernelError("map_delete_elem", Errno.EOPNOTSUPP)
