"""Tables of functions (struct_ops) as users hold them: registered by a link, or by the map itself."""

from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from ebpfsim.attached import AttachedLink
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.loader.struct_ops import StructOps
from ebpfsim.maps.struct_ops import StructOpsMap
from ebpfsim.uapi.flags import BPF_F_LINK
from hooks.link import HookStats
from hooks.struct_ops import StructOpsLink, StructOpsTable

if TYPE_CHECKING:
    from ebpfsim.host_net import HostNet

__all__ = ["AttachedStructOps", "RegisteredStructOps", "attach_struct_ops"]


class AttachedStructOps(AttachedLink):
    """A table that a link keeps registered; closing it unregisters the table unless the link is pinned."""

    def __init__(self, host: "HostNet", link: StructOpsLink) -> None:
        """Take over the caller's reference of a new link."""
        super().__init__(host, link)
        self._ops_link = link

    def replace(self, table: StructOps) -> None:
        """Put another table of the same kind and name in its place, without a gap."""
        self._ops_link.update_map(_filled(self._host, table))


class RegisteredStructOps:
    """A table that is registered by its map (SEC ``.struct_ops``); ``detach`` unregisters it.

    As a context manager it is unregistered at the end.
    """

    def __init__(self, host: "HostNet", map_: StructOpsMap, label: str) -> None:
        """Stand for a map that was registered."""
        self._host = host
        self._map = map_
        self._table = cast(StructOpsTable, map_.table)
        self._table.own_label = label
        self.id = map_.id

    def __repr__(self) -> str:
        return f"<RegisteredStructOps {self._map.title} of {self._host.name}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def label(self) -> str:
        """Its name in records."""
        return self._table.own_label

    @property
    def stats(self) -> HookStats:
        """What its runs came to."""
        return self._table.stats

    @property
    def runs(self) -> int:
        """How often its functions were called."""
        return self.stats.runs

    def detach(self) -> None:
        """Unregister it; KernelError when it is not registered."""
        result = self._map.delete_elem(bytes(4))
        if result < 0:
            raise KernelError("map_delete_elem", -result, self._map.title)

    def close(self) -> None:
        """Unregister it; a second time does nothing."""
        self._map.delete_elem(bytes(4))


def attach_struct_ops(host: "HostNet", table: StructOps, label: str = "") -> AttachedStructOps | RegisteredStructOps:
    """Fill in the map of a table and register it (bpf_map__attach_struct_ops)."""
    map_ = _filled(host, table)
    if map_.map_flags & BPF_F_LINK:
        return AttachedStructOps(host, host.kernel.struct_ops.link_create(map_, 0, {}, label))
    return RegisteredStructOps(host, map_, label)


def _filled(host: "HostNet", table: StructOps) -> StructOpsMap:
    fd = table.map.fd
    map_ = host.kernel.map_by_fd(fd)
    assert isinstance(map_, StructOpsMap)
    try:
        host.bpf.map_update_elem(fd, bytes(4), table.kernel_value())
    except KernelError as error:
        # a map that a link has used stays as it is
        if error.errno != Errno.EBUSY or not map_.map_flags & BPF_F_LINK:
            raise
    return map_
