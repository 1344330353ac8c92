"""Helpers on ``struct xdp_buff``: moving its pointers, reading and writing across fragments (net/core/filter.c, v6.18).

They change the structure in RAM, so a program sees the change in its context at once. Left out: bpf_fib_lookup,
the socket lookups, and the bpf_tcp_raw_* helpers.
"""

from typing import TYPE_CHECKING, Protocol, cast

from ebpfsim.errnos import Errno
from ebpfsim.helpers.native_text import native_text
from ebpfsim.isa.alu import s32, u32
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.bpf import ProgType
from netstack.fib_helpers import bpf_skb_check_mtu
from netstack.headers import ETH_HLEN
from netstack.xdp_buff import (
    XDP_FLAGS_HAS_FRAGS,
    XDP_FRAME_BYTES,
    XdpPointers,
    net_device_mtu,
    rxq_dev,
    rxq_frag_size,
)
from netstack.xdp_frags import Frag, frags, set_frags
from netstack.xdp_texts import (
    ADJUST_HEAD,
    ADJUST_META,
    ADJUST_TAIL,
    GET_BUFF_LEN,
    LOAD_BYTES,
    METALEN_MAX,
    STORE_BYTES,
)

if TYPE_CHECKING:
    from netstack.net import Net

__all__ = ["HELPERS"]

# enum bpf_check_mtu_ret, include/uapi/linux/bpf.h
BPF_MTU_CHK_RET_SUCCESS, BPF_MTU_CHK_RET_FRAG_NEEDED = 0, 1


class _NetRuntime(Protocol):
    net: "Net"


@native_text(GET_BUFF_LEN)
def bpf_xdp_get_buff_len(run: Run, xdp: int, _r2: int, _r3: int, _r4: int, _r5: int) -> int:
    """Return the length of the frame in bytes, fragments included."""
    return XdpPointers.read(run.mem, xdp).buff_len(run.mem)


@native_text(ADJUST_HEAD)
def bpf_xdp_adjust_head(run: Run, xdp: int, offset: int, _r3: int, _r4: int, _r5: int) -> int:
    """Move ``data`` and the metadata by ``offset`` bytes; EINVAL past the headroom or with less than a header left."""
    now, delta, mem = XdpPointers.read(run.mem, xdp), s32(offset), run.mem
    data, metalen = now.data + delta, now.metalen
    if not now.data_hard_start + XDP_FRAME_BYTES + metalen <= data <= now.data_end - ETH_HLEN:
        return -Errno.EINVAL
    if metalen:
        mem.write(now.data_meta + delta, mem.read(now.data_meta, metalen))
    now._replace(data=data, data_meta=now.data_meta + delta).write(mem, xdp)
    return 0


@native_text(ADJUST_META)
def bpf_xdp_adjust_meta(run: Run, xdp: int, offset: int, _r3: int, _r4: int, _r5: int) -> int:
    """Move ``data_meta`` by ``offset`` bytes; EINVAL outside the headroom, EACCES for lengths that skbs cannot have."""
    now = XdpPointers.read(run.mem, xdp)
    if now.data_meta > now.data:
        return -Errno.ENOTSUPP
    meta = now.data_meta + s32(offset)
    if not now.data_hard_start + XDP_FRAME_BYTES <= meta <= now.data:
        return -Errno.EINVAL
    if (now.data - meta) & 3 or now.data - meta > METALEN_MAX:
        return -Errno.EACCES
    now._replace(data_meta=meta).write(run.mem, xdp)
    return 0


@native_text(ADJUST_TAIL)
def bpf_xdp_adjust_tail(run: Run, xdp: int, offset: int, _r3: int, _r4: int, _r5: int) -> int:
    """Grow (with zeroes) or shrink the frame at its end; EINVAL past the tailroom or with less than a header left."""
    now, delta = XdpPointers.read(run.mem, xdp), s32(offset)
    if now.has_frags:
        return _frags_shrink_tail(run.mem, xdp, now, -delta) if delta < 0 else _frags_grow_tail(run.mem, now, delta)
    data_end = now.data_end + delta
    if not now.data + ETH_HLEN <= data_end <= now.data_hard_end:
        return -Errno.EINVAL
    if delta > 0:
        run.mem.fill(now.data_end, delta)
    now._replace(data_end=data_end).write(run.mem, xdp)
    return 0


def _frags_grow_tail(mem: Memory, now: XdpPointers, delta: int) -> int:
    # bpf_xdp_frags_increase_tail: in the page of the last fragment only
    frag_size = rxq_frag_size(mem, now.rxq)
    if not frag_size or frag_size > now.frame_sz:
        return -Errno.EOPNOTSUPP
    rows = frags(mem, now.data_hard_end)
    last = rows[-1]
    if delta > frag_size - last.size - last.offset:
        return -Errno.EINVAL
    mem.fill(last.address + last.size, delta)
    rows[-1] = last._replace(size=last.size + delta)
    set_frags(mem, now.data_hard_end, rows)
    return 0


def _frags_shrink_tail(mem: Memory, xdp: int, now: XdpPointers, delta: int) -> int:
    # bpf_xdp_frags_shrink_tail: whole fragments from the end, then a part of one, then of the linear part
    if delta > now.buff_len(mem) - ETH_HLEN:
        return -Errno.EINVAL
    rows = frags(mem, now.data_hard_end)
    while rows and delta:
        last = rows.pop()
        shrink = min(delta, last.size)
        delta -= shrink
        if shrink < last.size:
            rows.append(last._replace(size=last.size - shrink))
    set_frags(mem, now.data_hard_end, rows)
    if not rows:
        flags = now.flags & ~XDP_FLAGS_HAS_FRAGS
        now._replace(data_end=now.data_end - delta, flags=flags).write(mem, xdp)
    return 0


@native_text(LOAD_BYTES)
def bpf_xdp_load_bytes(run: Run, xdp: int, offset: int, buf: int, size: int, _r5: int) -> int:
    """Copy bytes of the frame to memory; EFAULT for numbers over 65535, EINVAL past the end."""
    pieces = _pieces(run.mem, xdp, u32(offset), u32(size))
    if isinstance(pieces, int):
        return pieces
    run.mem.write(buf, b"".join(run.mem.read(piece.page, piece.size) for piece in pieces))
    return 0


@native_text(STORE_BYTES)
def bpf_xdp_store_bytes(run: Run, xdp: int, offset: int, buf: int, size: int, _r5: int) -> int:
    """Copy bytes from memory into the frame; errors as ``bpf_xdp_load_bytes``."""
    pieces = _pieces(run.mem, xdp, u32(offset), u32(size))
    if isinstance(pieces, int):
        return pieces
    for piece in pieces:
        run.mem.write(piece.page, run.mem.read(buf, piece.size))
        buf += piece.size
    return 0


def _pieces(mem: Memory, xdp: int, offset: int, size: int) -> list[Frag] | int:
    # bpf_xdp_pointer and bpf_xdp_copy_buf: the pieces of memory that hold a range of the frame
    if offset > 0xFFFF or size > 0xFFFF:
        return -Errno.EFAULT
    now = XdpPointers.read(mem, xdp)
    if offset + size > now.buff_len(mem):
        return -Errno.EINVAL
    areas = [Frag(now.data, now.data_end - now.data)]
    if now.has_frags:
        areas += [Frag(frag.address, frag.size) for frag in frags(mem, now.data_hard_end)]
    pieces = []
    for area in areas:
        taken = min(size, area.size - offset)
        if taken > 0:
            pieces.append(Frag(area.page + offset, taken))
            size -= taken
        offset = max(0, offset - area.size)
    return pieces


def bpf_check_mtu(run: Run, xdp: int, ifindex: int, mtu_len: int, len_diff: int, flags: int) -> int:
    """Tell whether the frame, ``len_diff`` bytes longer, fits the MTU of a device (0: the one it came in by).

    ``mtu_len`` points to the length of an IP packet to check in place of the frame's, or to 0, and gets the MTU. 0 it
    fits, 1 it does not; EINVAL for flags, ENODEV for an unknown device, which leave ``mtu_len`` alone.
    """
    if run.prog.type != ProgType.XDP:
        return bpf_skb_check_mtu(run, xdp, ifindex, mtu_len, len_diff, flags)
    mem = run.mem
    if flags:
        return -Errno.EINVAL
    now = XdpPointers.read(mem, xdp)
    if u32(ifindex):
        net = cast(_NetRuntime, run.kernel).net.devices_by_address[rxq_dev(mem, now.rxq)].net
        device = net.dev_get_by_index(u32(ifindex))
        if device is None:
            return -Errno.ENODEV
        mtu = device.mtu
    else:
        mtu = net_device_mtu(mem, rxq_dev(mem, now.rxq))
    asked = mem.load(mtu_len, 4)
    size = asked + ETH_HLEN if asked else now.data_end - now.data
    mem.store(mtu_len, 4, mtu)
    # int arithmetic, as in C
    fits = s32(size + s32(len_diff)) <= mtu + ETH_HLEN
    return BPF_MTU_CHK_RET_SUCCESS if fits else BPF_MTU_CHK_RET_FRAG_NEEDED


# by the numbers of enum bpf_func_id
HELPERS: dict[int, Helper] = {
    44: bpf_xdp_adjust_head,
    54: bpf_xdp_adjust_meta,
    65: bpf_xdp_adjust_tail,
    163: bpf_check_mtu,
    188: bpf_xdp_get_buff_len,
    189: bpf_xdp_load_bytes,
    190: bpf_xdp_store_bytes,
}
