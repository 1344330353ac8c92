"""BPF_MAP_TYPE_CGROUP_ARRAY (kernel/bpf/arraymap.c, v6.18): cgroups by index, for bpf_skb_under_cgroup() and others."""

from ebpfsim.maps.fd_array import FdArrayMap
from ebpfsim.objects import FdKind, KernelObject

__all__ = ["CgroupArrayMap"]


class CgroupArrayMap(FdArrayMap):
    """An array of cgroups."""

    def cgroup_at(self, index: int) -> object | None:
        """Return the cgroup in a slot, or None; any index may be asked for."""
        return self._slots.get(index)

    def take(self, fd: int) -> KernelObject:
        """Return the cgroup behind a descriptor; EBADF."""
        assert self._env is not None
        cgroup = self._env.object_by_fd(fd, FdKind.CGROUP)
        cgroup.get()
        return cgroup

    def on_user_release(self) -> None:
        """Empty the array (``cgroup_fd_array_free`` is not alone: ``map_release_uref`` clears it as well)."""
        self.clear()
