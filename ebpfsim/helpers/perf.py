"""bpf_perf_event_output() (kernel/trace/bpf_trace.c and net/core/filter.c, v6.18).

Programs that see packets may append the first bytes of one; their context is an sk_buff or an xdp_buff. Left out:
counters (bpf_perf_event_read(), bpf_perf_event_read_value()).
"""

from ebpfsim.errnos import Errno
from ebpfsim.isa.alu import u32
from ebpfsim.maps.perf_event import PerfEvent
from ebpfsim.maps.perf_event_array import PerfEventArrayMap
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.helper_ids import HELPER_IDS

__all__ = ["HELPERS"]

# include/uapi/linux/bpf.h
BPF_F_INDEX_MASK = BPF_F_CURRENT_CPU = 0xFFFF_FFFF
BPF_F_CTXLEN_MASK = 0xFFFFF << 32
_SKB_LENGTH_OFF = 112  # sk_buff.len in the BTF of Linux 6.18
_SKB_LOAD, _XDP_LOAD = HELPER_IDS["bpf_skb_load_bytes"], HELPER_IDS["bpf_xdp_load_bytes"]
_XDP_LENGTH = HELPER_IDS["bpf_xdp_get_buff_len"]
_SKB_TYPES = frozenset(
    {
        ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.CGROUP_SKB, ProgType.LWT_IN,
        ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB,
    }
)  # fmt: skip


def perf_event_output(run: Run, ctx: int, map_address: int, flags: int, data: int, size: int) -> int:
    """Write bytes, and of packets the first ones, to an event: 0, or a negative errno."""
    packet = run.prog.type in _SKB_TYPES or run.prog.type == ProgType.XDP
    if flags & ~(BPF_F_INDEX_MASK | (BPF_F_CTXLEN_MASK if packet else 0)):
        return -Errno.EINVAL
    count = (flags & BPF_F_CTXLEN_MASK) >> 32
    if packet and count > _packet_length(run, ctx):
        return -Errno.EFAULT
    event = _event(run, map_address, u32(flags))
    if isinstance(event, int):
        return event
    return event.output(run.mem.read(data, size) + (_packet(run, ctx, count) if count else b""))


def _event(run: Run, map_address: int, index: int) -> PerfEvent | int:
    # __bpf_perf_event_output(): the event to write to, or a negative errno
    map_ = run.kernel.map_at(map_address)
    assert isinstance(map_, PerfEventArrayMap)
    if index == BPF_F_CURRENT_CPU:
        index = run.cpu.number
    if index >= map_.max_entries:
        return -Errno.E2BIG
    event = map_.event_at(index)
    if event is None:
        return -Errno.ENOENT
    if not isinstance(event, PerfEvent) or not event.is_bpf_output:
        return -Errno.EINVAL
    return event if event.cpu == run.cpu.number else -Errno.EOPNOTSUPP


def _packet_length(run: Run, ctx: int) -> int:
    if run.prog.type == ProgType.XDP:
        return run.kernel.helpers[_XDP_LENGTH](run, ctx, 0, 0, 0, 0)
    return run.mem.load(ctx + _SKB_LENGTH_OFF, 4)


def _packet(run: Run, ctx: int, count: int) -> bytes:
    load = _XDP_LOAD if run.prog.type == ProgType.XDP else _SKB_LOAD
    copy = run.mem.alloc(count)
    try:
        run.kernel.helpers[load](run, ctx, 0, copy, count, 0)
        return run.mem.read(copy, count)
    finally:
        run.mem.free(copy)


HELPERS: dict[int, Helper] = {HELPER_IDS["bpf_perf_event_output"]: perf_event_output}
