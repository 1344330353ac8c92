"""Timers, work queues and task work in map values (process_timer_func() and its kin, v6.18)."""

from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.maps.map import Map
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.state import Reg

__all__ = ["check_map_field_pointer", "process_wq_func"]


def check_map_field_pointer(env: Env, reg: Reg, regno: int, kind: str) -> Map:
    """Refuse a pointer that does not lead to the one field of a kind that a map's values have.

    Returns the map (``check_map_field_pointer``).
    """
    map_ = reg.raw
    assert isinstance(map_, Map)
    if reg.b.mask:
        text = f"R{regno} doesn't have constant offset. {kind} has to be at the constant offset\n"
        raise env.fail(Errno.EINVAL, text)
    if map_.btf is None:
        raise env.fail(Errno.EINVAL, f"map '{map_.name}' has to have BTF in order to use {kind}\n")
    field = next((field for field in map_.record if field.kind == kind), None)
    if field is None:
        raise env.fail(Errno.EINVAL, f"map '{map_.name}' has no valid {kind}\n")
    off = reg.off + reg.b.smin
    if off != field.off:
        raise env.fail(Errno.EINVAL, f"off {off} doesn't point to 'struct {kind}' that is at {field.off}\n")
    return map_


def process_wq_func(env: Env, reg: Reg) -> Map:
    """Refuse a pointer that does not lead to the work queue of a map's values (``process_wq_func``)."""
    map_ = reg.raw
    assert isinstance(map_, Map)
    at = next((field.off for field in map_.record if field.kind == "bpf_wq"), -22)
    off = reg.off + reg.b.value
    if not map_.record:
        raise NotModelled("work queue of a map without special fields", "kernel/bpf/verifier.c")
    if off != at:
        text = f"off {off} doesn't point to 'struct bpf_wq' that is at {at}\n"
        raise env.fail(Errno.EINVAL, text)
    return map_
