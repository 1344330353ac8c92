"""Values that belong to sockets: bpf_sk_storage_get() and bpf_sk_storage_delete() (net/core/bpf_sk_storage.c, v6.18).

Left out: tasks, inodes and cgroups, which there are none of yet.
"""

from typing import cast

from ebpfsim.errnos import Errno
from ebpfsim.maps.local_storage import LocalStorageMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.flags import BPF_LOCAL_STORAGE_GET_F_CREATE
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]

# struct sock: skc_state of sock_common; a time-wait or request socket has nothing behind that
_SKC_STATE, _NOT_FULL = 18, (6, 12)


def _fullsock(run: Run, sk: int) -> bool:
    return bool(sk) and run.mem.load(sk + _SKC_STATE, 1) not in _NOT_FULL


def bpf_sk_storage_get(run: Run, map_address: int, sk: int, value: int, flags: int, _r5: int) -> int:
    """Return the address of a socket's value; BPF_SK_STORAGE_GET_F_CREATE makes it when there is none. Else 0."""
    if not _fullsock(run, sk) or flags > BPF_LOCAL_STORAGE_GET_F_CREATE:
        return 0
    map_ = cast(LocalStorageMap, run.kernel.map_at(map_address))
    first = run.mem.read(value, map_.value_size) if value else None
    return map_.storage_get(sk, first, flags)


def bpf_sk_storage_delete(run: Run, map_address: int, sk: int, _r3: int, _r4: int, _r5: int) -> int:
    """Remove a socket's value: 0, ENOENT, or EINVAL of no socket."""
    if not _fullsock(run, sk):
        return -Errno.EINVAL
    return cast(LocalStorageMap, run.kernel.map_at(map_address)).storage_delete(sk)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_sk_storage_get"]: bpf_sk_storage_get,
    HELPER_IDS["bpf_sk_storage_delete"]: bpf_sk_storage_delete,
}
