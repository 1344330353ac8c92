"""bpf_perf_event_output() and its kin (kernel/trace/bpf_trace.c and net/core/filter.c, v6.18).

Programs that see packets may append the first bytes of one; their context is an sk_buff or an xdp_buff. Programs on
functions that get one use bpf_skb_output() and bpf_xdp_output(). Left out:
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
# what a context is: sk_buff, xdp_buff
_SKB, _XDP = "skb", "xdp"
_SKB_TYPES = frozenset(
    {
        ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.CGROUP_SKB, ProgType.LWT_IN,
        ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB,
    }
)  # fmt: skip


def perf_event_output(run: Run, ctx: int, map_address: int, flags: int, data: int, size: int) -> int:
    """Write bytes, and of packets the first ones, to an event: 0, or a negative errno."""
    kind = _XDP if run.prog.type == ProgType.XDP else _SKB if run.prog.type in _SKB_TYPES else None
    return _output(run, ctx, kind, map_address, flags, run.mem.read(data, size))


def skb_output(run: Run, skb: int, map_address: int, flags: int, data: int, size: int) -> int:
    """Write bytes and the first ones of a packet that a function of the kernel got: 0, or a negative errno."""
    return _output(run, skb, _SKB, map_address, flags, run.mem.read(data, size))


def xdp_output(run: Run, xdp: int, map_address: int, flags: int, data: int, size: int) -> int:
    """Write bytes and the first ones of a frame that a program of XDP got: 0, or a negative errno."""
    return _output(run, xdp, _XDP, map_address, flags, run.mem.read(data, size))


def _output(run: Run, ctx: int, kind: str | None, map_address: int, flags: int, data: bytes) -> int:
    if flags & ~(BPF_F_INDEX_MASK | (BPF_F_CTXLEN_MASK if kind is not None else 0)):
        return -Errno.EINVAL
    count = (flags & BPF_F_CTXLEN_MASK) >> 32
    if kind is not None and count > _packet_length(run, ctx, kind):
        return -Errno.EFAULT
    event = _event(run, map_address, u32(flags))
    if isinstance(event, int):
        return event
    return event.output(data + (_packet(run, ctx, kind, count) if kind is not None and count else b""))


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


def _packet_length(run: Run, ctx: int, kind: str) -> int:
    if kind == _XDP:
        return run.kernel.helpers[_XDP_LENGTH](run, ctx, 0, 0, 0, 0)
    return run.mem.load(ctx + _SKB_LENGTH_OFF, 4)


def _packet(run: Run, ctx: int, kind: str, count: int) -> bytes:
    load = _XDP_LOAD if kind == _XDP else _SKB_LOAD
    copy = run.mem.alloc(count)
    try:
        run.kernel.helpers[load](run, ctx, 0, copy, count, 0)
        return run.mem.read(copy, count)
    finally:
        run.mem.free(copy)


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_perf_event_output"]: perf_event_output,
    HELPER_IDS["bpf_skb_output"]: skb_output,
    HELPER_IDS["bpf_xdp_output"]: xdp_output,
}
