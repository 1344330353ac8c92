"""Values that belong to a socket, task, inode or cgroup: BPF_MAP_TYPE_{SK,TASK,INODE,CGRP}_STORAGE
(kernel/bpf/bpf_local_storage.c and its users, v6.18).

A key of user space is a descriptor of the owner; programs hold the owner itself. Objects of which programs hold an
address have it as ``storage_owner``, 0 once the owner has gone. Files of bpf(2) all have one and the same inode
(anon_inode).
"""

from collections.abc import Mapping

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError, KernelOops
from ebpfsim.maps.map import MapAttr, MapEnv
from ebpfsim.maps.value import ValueMap
from ebpfsim.memory import Memory
from ebpfsim.objects import FdKind, KernelObject
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_EXIST, BPF_F_LOCK, BPF_LOCAL_STORAGE_GET_F_CREATE, BPF_NOEXIST

__all__ = ["LocalStorageMap"]

# the address of a structure, which programs have, or an object without one
Owner = KernelObject | int
# what user space's descriptors must be; inodes belong to any file
OWNERS: Mapping[MapType, FdKind | None] = {
    MapType.SK_STORAGE: FdKind.SOCKET,
    MapType.TASK_STORAGE: FdKind.PIDFD,
    MapType.CGRP_STORAGE: FdKind.CGROUP,
    MapType.INODE_STORAGE: None,
}


class _AnonInode(KernelObject):
    # the inode of all files that belong to no file system
    pass


class LocalStorageMap(ValueMap):
    """A value for each owner, made when first wanted."""

    def __init__(self, attr: MapAttr, mem: Memory, nr_cpus: int, env: MapEnv | None = None) -> None:
        super().__init__(attr, mem, nr_cpus, env)
        self._values: dict[Owner, int] = {}
        self._anon_inode = _AnonInode()

    # ---- programs -----------------------------------------------------------------------------------------------

    def storage_get(self, owner: Owner, value: bytes | None, flags: int) -> int:
        """Return the address of an owner's value or 0; BPF_LOCAL_STORAGE_GET_F_CREATE makes it (``bpf_*_storage_get``).

        ``value`` is what a new one starts with, zeroes for None.
        """
        if flags & ~BPF_LOCAL_STORAGE_GET_F_CREATE:
            return 0
        found = self.storage_lookup(owner)
        if found or not flags:
            return found
        return max(0, self.storage_update(owner, value if value is not None else bytes(self.value_size), BPF_NOEXIST))

    def storage_lookup(self, owner: Owner) -> int:
        """Return the address of an owner's value or 0 (``bpf_local_storage_lookup``)."""
        return self._values.get(owner, 0)

    def storage_update(self, owner: Owner, value: bytes, flags: int) -> int:
        """Set an owner's value (``bpf_local_storage_update``): its address, or a negative errno."""
        plain = flags & ~BPF_F_LOCK
        if plain > BPF_EXIST or (flags & BPF_F_LOCK and not self.has_field("bpf_spin_lock")):
            return -Errno.EINVAL
        old = self._values.get(owner, 0)
        if old and plain == BPF_NOEXIST:
            return -Errno.EEXIST
        if not old and plain == BPF_EXIST:
            return -Errno.ENOENT
        try:
            address = old if old and flags & BPF_F_LOCK else self.mem.alloc(self.value_size)
        except KernelOops:
            return -Errno.ENOMEM
        self._write_value(address, value)
        self._values[owner] = address
        if old and old != address:
            self._free(old)
        return address

    def forget(self, owner: Owner) -> None:
        """Remove the value of an owner that goes (``bpf_local_storage_destroy``)."""
        self.storage_delete(owner)

    def storage_delete(self, owner: Owner) -> int:
        """Remove an owner's value; ENOENT."""
        address = self._values.pop(owner, 0)
        if not address:
            return -Errno.ENOENT
        self._free(address)
        return 0

    # ---- user space ---------------------------------------------------------------------------------------------

    def get_next_key(self, key: bytes | None) -> bytes | None:
        """Refuse: owners have no order."""
        raise KernelError("map_get_next_key", Errno.ENOTSUPP, self._who())

    def lookup_elem(self, key: bytes, cpu: int) -> int:
        """Return the address of the value of the owner behind a descriptor, or 0."""
        return self.storage_lookup(self._owner(key))

    def update_elem(self, key: bytes, value: bytes, flags: int, cpu: int) -> int:
        """Set the value of the owner behind a descriptor."""
        owner = self._owner(key)
        return min(0, self.storage_update(owner, value, flags)) if owner else -Errno.ENOENT

    def delete_elem(self, key: bytes) -> int:
        """Remove the value of the owner behind a descriptor."""
        return self.storage_delete(self._owner(key))

    def on_release(self) -> None:
        """Give back the values."""
        for address in self._values.values():
            self._free(address)
        self._values.clear()
        super().on_release()

    def _free(self, address: int) -> None:
        self.free_fields(address)
        self.mem.free_rcu(address)

    def _owner(self, key: bytes) -> Owner:
        assert self._env is not None
        kind = OWNERS[self.type]
        found = self._env.object_by_fd(int.from_bytes(key, "little"), kind)
        owner: Owner = getattr(found, "storage_owner", found if kind is not None else self._anon_inode)
        return owner
