"""Which map goes with which helper (check_map_func_compatibility(), kernel/bpf/verifier.c, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.helpers.protos import func_id_name
from ebpfsim.maps.map import Map
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType
from ebpfsim.verifier.env import Env

__all__ = ["check_map_func_compatibility"]

# helpers by number that a map of a type may be passed to; other types take any
_BY_MAP: dict[MapType, frozenset[int]] = {
    MapType.PROG_ARRAY: frozenset({12}),
    MapType.PERF_EVENT_ARRAY: frozenset({22, 25, 111, 55, 121}),
    MapType.RINGBUF: frozenset({130, 131, 134, 198, 199, 200}),
    MapType.USER_RINGBUF: frozenset({209}),
    MapType.STACK_TRACE: frozenset({27}),
    MapType.CGROUP_ARRAY: frozenset({33, 37}),
    MapType.CGROUP_STORAGE: frozenset({81}),
    MapType.PERCPU_CGROUP_STORAGE: frozenset({81}),
    MapType.DEVMAP: frozenset({51, 1}),
    MapType.DEVMAP_HASH: frozenset({51, 1}),
    MapType.CPUMAP: frozenset({51}),
    MapType.XSKMAP: frozenset({51, 1}),
    MapType.ARRAY_OF_MAPS: frozenset({1}),
    MapType.HASH_OF_MAPS: frozenset({1}),
    MapType.SOCKMAP: frozenset({52, 53, 60, 82, 1}),
    MapType.SOCKHASH: frozenset({72, 70, 71, 82, 1}),
    MapType.REUSEPORT_SOCKARRAY: frozenset({82}),
    MapType.QUEUE: frozenset({89, 88, 87}),
    MapType.STACK: frozenset({89, 88, 87}),
    MapType.SK_STORAGE: frozenset({107, 108, 194}),
    MapType.INODE_STORAGE: frozenset({145, 146, 194}),
    MapType.TASK_STORAGE: frozenset({156, 157, 194}),
    MapType.CGRP_STORAGE: frozenset({210, 211, 194}),
    MapType.BLOOM_FILTER: frozenset({89, 87}),
}
_PERF, _RING = frozenset({MapType.PERF_EVENT_ARRAY}), frozenset({MapType.RINGBUF})
_CGROUP = frozenset({MapType.CGROUP_ARRAY})
_QUEUES = frozenset({MapType.QUEUE, MapType.STACK})
# map types that a helper takes; other helpers take any
_BY_HELPER: dict[int, frozenset[MapType]] = {
    12: frozenset({MapType.PROG_ARRAY}),
    **dict.fromkeys((22, 25, 55, 111, 121), _PERF),
    **dict.fromkeys((130, 131, 134, 198, 199, 200), _RING),
    209: frozenset({MapType.USER_RINGBUF}),
    27: frozenset({MapType.STACK_TRACE}),
    33: _CGROUP,
    37: _CGROUP,
    51: frozenset({MapType.DEVMAP, MapType.DEVMAP_HASH, MapType.CPUMAP, MapType.XSKMAP}),
    **dict.fromkeys((52, 60, 53), frozenset({MapType.SOCKMAP})),
    **dict.fromkeys((72, 71, 70), frozenset({MapType.SOCKHASH})),
    81: frozenset({MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE}),
    82: frozenset({MapType.REUSEPORT_SOCKARRAY, MapType.SOCKMAP, MapType.SOCKHASH}),
    88: _QUEUES,
    89: _QUEUES | {MapType.BLOOM_FILTER},
    87: _QUEUES | {MapType.BLOOM_FILTER},
    195: frozenset({MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH}),
    107: frozenset({MapType.SK_STORAGE}),
    108: frozenset({MapType.SK_STORAGE}),
    145: frozenset({MapType.INODE_STORAGE}),
    146: frozenset({MapType.INODE_STORAGE}),
    156: frozenset({MapType.TASK_STORAGE}),
    157: frozenset({MapType.TASK_STORAGE}),
    210: frozenset({MapType.CGRP_STORAGE}),
    211: frozenset({MapType.CGRP_STORAGE}),
}
_SOCKMAPS = (MapType.SOCKMAP, MapType.SOCKHASH)
# program types in which no locked socket can be met: map_update_elem() and map_delete_elem() are safe
_MAY_UPDATE_SOCKMAP = frozenset(
    {
        ProgType.SOCKET_FILTER,
        ProgType.SCHED_CLS,
        ProgType.SCHED_ACT,
        ProgType.XDP,
        ProgType.SK_REUSEPORT,
        ProgType.FLOW_DISSECTOR,
        ProgType.SK_LOOKUP,
    }
)


def _may_update_sockmap(env: Env, func_id: int) -> bool:
    # may_update_sockmap: map_update_elem is 2, map_delete_elem 3
    if func_id not in (2, 3):
        return False
    iterates = env.prog_type == ProgType.TRACING and env.expected_attach(AttachType.TRACE_ITER)
    if env.prog_type in _MAY_UPDATE_SOCKMAP or iterates or (env.prog_type == ProgType.SOCK_OPS and func_id == 3):
        return True
    env.verbose("cannot update sockmap in this context\n")
    return False


def check_map_func_compatibility(env: Env, map_: Map | None, func_id: int) -> None:
    """Refuse a map that a helper cannot work on (``check_map_func_compatibility``)."""
    if map_ is None:
        return
    kind = map_.attr.map_type
    helpers, kinds = _BY_MAP.get(kind), _BY_HELPER.get(func_id)
    bad = helpers is not None and func_id not in helpers
    if bad and kind in _SOCKMAPS:
        bad = not _may_update_sockmap(env, func_id)
    if bad or (kinds is not None and kind not in kinds):
        name = func_id_name(func_id)
        raise env.fail(Errno.EINVAL, f"cannot pass map_type {int(kind)} into func {name}#{func_id}\n")
