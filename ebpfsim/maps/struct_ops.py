"""BPF_MAP_TYPE_STRUCT_OPS: a structure of functions that programs implement (kernel/bpf/bpf_struct_ops.c, v6.18).

One element, whose type is ``struct bpf_struct_ops_<name>`` of the kernel's BTF. It starts out empty; filling it in
takes programs of type struct_ops, which are not modelled yet.
"""

from struct import Struct

from ebpfsim.btf.types import Struct as StructType
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError, KernelError, NotModelled
from ebpfsim.maps.map import Map, MapAttr
from ebpfsim.uapi.flags import BPF_F_LINK

__all__ = ["StructOpsMap", "struct_ops_errno"]

_U32 = Struct("<I")
PREFIX = "bpf_struct_ops_"
# what register_bpf_struct_ops() knows in the modelled configuration
STRUCT_OPS = ("bpf_dummy_ops", "tcp_congestion_ops")


def struct_ops_errno(attr: MapAttr) -> int:
    """Return what is wrong with the type that a map is to hold: ENOTSUPP, EINVAL or 0."""
    try:
        type_ = vmlinux().type(attr.btf_vmlinux_value_type_id)
    except BtfError:
        return Errno.ENOTSUPP
    if not isinstance(type_, StructType) or type_.name not in [PREFIX + name for name in STRUCT_OPS]:
        return Errno.ENOTSUPP
    return Errno.EINVAL if attr.value_size != type_.size else 0


class StructOpsMap(Map):
    """A structure of functions, not registered."""

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Refuse: only user space fills it in."""
        return -Errno.EINVAL

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Refuse: programs do not read it."""
        return -Errno.EINVAL

    def delete_elem(self, key: bytes) -> int:
        """Unregister: EOPNOTSUPP when a link is to do that, ENOENT while it is not registered."""
        return -Errno.EOPNOTSUPP if self.map_flags & BPF_F_LINK else -Errno.ENOENT

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Return the only key, 0."""
        return None if key == bytes(4) else bytes(4)

    def sys_lookup(self, key: bytes | None, flags: int = 0) -> bytes:
        """Return the structure: zeroes, because it is not registered."""
        if key != bytes(4):
            raise KernelError("map_lookup_elem", Errno.ENOENT, self._who())
        return bytes(self.value_size)

    def sys_update(self, key: bytes | None, value: bytes, flags: int = 0) -> None:
        """Refuse what the kernel refuses at once; the rest is not modelled."""
        assert key is not None
        if flags:
            self._raise("map_update_elem", -Errno.EINVAL, key)
        if _U32.unpack(key)[0]:
            self._raise("map_update_elem", -Errno.E2BIG, key)
        # refcount and state are the kernel's
        if any(value[:8]):
            self._raise("map_update_elem", -Errno.EINVAL, key)
        raise NotModelled("filling in a struct_ops map", "kernel/bpf/bpf_struct_ops.c: bpf_struct_ops_map_update_elem")
