"""Test runs of XDP programs (``bpf_prog_test_run_xdp`` and what it uses, net/bpf/test_run.c, v6.18).

The program runs in a context of its own: a redirect goes nowhere, unless frames are live (``live_frames``).
"""

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import ETH_HLEN, OP, TestRunAttr, ctx_init, finish, run_repeated
from ebpfsim.test_run.live_frames import NAPI_POLL_WEIGHT, PAGE_HEAD_BYTES, XDP_FRAME_BYTES, LiveFrames
from ebpfsim.uapi.bpf import AttachType
from ebpfsim.uapi.flags import BPF_F_TEST_XDP_LIVE_FRAMES
from netstack.xdp_buff import XDP_FLAGS_HAS_FRAGS, XDP_PACKET_HEADROOM, XdpBuff, make_xdp_buff
from netstack.xdp_frags import MAX_SKB_FRAGS, SHARED_INFO_BYTES, Frag, set_frags

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["check_flags", "default_rxq", "test_run_xdp"]

TEST_XDP_MAX_BATCH = 256
# struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
XDP_MD = Struct("<6I")
LOOPBACK_IFINDEX = 1
U32_MAX = 0xFFFF_FFFF


@dataclass(slots=True)
class _XdpMd:
    data: int
    data_end: int
    data_meta: int
    ingress_ifindex: int
    rx_queue_index: int
    egress_ifindex: int


def test_run_xdp(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program on a frame that the caller makes up."""
    check_flags(prog, attr)
    live = bool(attr.flags & BPF_F_TEST_XDP_LIVE_FRAMES)
    size_in = len(attr.data_in)
    md = _ctx_in(attr.ctx_in)
    meta_size, linear_size = 0, size_in
    if md is not None:
        meta_size, linear_size = md.data, md.data_end
        if md.data_meta or md.data_end > size_in or md.data > md.data_end:
            raise KernelError(OP, Errno.EINVAL, "ctx_in: data_meta must be 0, data <= data_end <= size of data_in")
        if live and attr.data_size_out:
            raise KernelError(OP, Errno.EINVAL, "ctx_in and data_out with live frames")
        if meta_size % 4 or meta_size > XDP_PACKET_HEADROOM - XDP_FRAME_BYTES:
            raise KernelError(OP, Errno.EINVAL, f"ctx_in: {meta_size} bytes of metadata")
    headroom = XDP_PACKET_HEADROOM - meta_size + (PAGE_HEAD_BYTES if live else 0)
    linear_size = min(linear_size, PAGE_SIZE - headroom - SHARED_INFO_BYTES)
    if live and size_in > linear_size:
        raise KernelError(OP, Errno.EINVAL, f"a live frame of {size_in} bytes, room for {linear_size}")
    # the length of the frame is unsigned in the kernel: less data than metadata is a huge frame there
    if (size_in - meta_size) & U32_MAX < ETH_HLEN:
        raise KernelError(OP, Errno.EINVAL, f"frame of {size_in - meta_size} bytes, at least {ETH_HLEN}")
    rxq = _rxq(kernel, md)
    if size_in - linear_size > MAX_SKB_FRAGS * PAGE_SIZE:
        raise KernelError(OP, Errno.ENOMEM, f"frame of {size_in} bytes does not fit into {MAX_SKB_FRAGS} fragments")
    frame = attr.data_in[meta_size:linear_size]
    if live:
        ifindex = md.ingress_ifindex if md is not None else 0
        device = kernel.device_by_ifindex(ifindex or LOOPBACK_IFINDEX)
        frames = LiveFrames(kernel, prog, device, frame, attr.data_in[:meta_size])
        duration_ns = frames.run(max(attr.repeat, 1), attr.batch_size or NAPI_POLL_WEIGHT)
        # what the caller gave: its frame is only copied
        return TestRun(0, finish(kernel, attr, attr.data_in, 0) if attr.data_size_out else b"", b"", duration_ns)
    xdp = make_xdp_buff(kernel.mem, frame, rxq, metadata=attr.data_in[:meta_size])
    pages = _add_frags(kernel.mem, xdp, attr.data_in[linear_size:])
    try:
        retval, duration_ns = run_repeated(prog, xdp.address, kernel.cpus[0], max(attr.repeat, 1), stats_enabled)
        data_out = xdp.metadata() + xdp.frame()
        after = xdp.pointers()
        if md is not None:
            md.data = (after.data - after.data_meta) & U32_MAX
            md.data_end = (after.data_end - after.data_meta) & U32_MAX
    finally:
        xdp.close()
        for page in pages:
            kernel.mem.free(page)
    return TestRun(retval, finish(kernel, attr, data_out, retval), _ctx_out(md), duration_ns)


def _add_frags(mem: Memory, xdp: XdpBuff, rest: bytes) -> list[int]:
    # what the linear part does not hold goes on in pages, which are the caller's to free
    if not rest:
        return []
    chunks = [rest[i : i + PAGE_SIZE] for i in range(0, len(rest), PAGE_SIZE)]
    pages = [mem.alloc(PAGE_SIZE) for _ in chunks]
    for page, chunk in zip(pages, chunks, strict=True):
        mem.write(page, chunk)
    now = xdp.pointers()
    set_frags(mem, now.data_hard_end, [Frag(page, len(chunk)) for page, chunk in zip(pages, chunks, strict=True)])
    now._replace(flags=now.flags | XDP_FLAGS_HAS_FRAGS).write(mem, xdp.address)
    return pages


def check_flags(prog: Prog, attr: TestRunAttr) -> None:
    """Refuse what a test run of an XDP program refuses whatever the frame is."""
    if prog.expected_attach_type in (AttachType.XDP_DEVMAP, AttachType.XDP_CPUMAP):
        kind = prog.expected_attach_type.kernel_name
        raise KernelError(OP, Errno.EINVAL, f"a program of expected_attach_type {kind}")
    if attr.flags & ~BPF_F_TEST_XDP_LIVE_FRAMES:
        raise KernelError(OP, Errno.EINVAL, f"flags {attr.flags:#x}")
    if attr.flags & BPF_F_TEST_XDP_LIVE_FRAMES:
        if attr.batch_size > TEST_XDP_MAX_BATCH:
            raise KernelError(OP, Errno.E2BIG, f"batch_size {attr.batch_size}, at most {TEST_XDP_MAX_BATCH}")
    elif attr.batch_size:
        raise KernelError(OP, Errno.EINVAL, "batch_size without BPF_F_TEST_XDP_LIVE_FRAMES")


def _ctx_in(data: bytes) -> _XdpMd | None:
    given = ctx_init(data, XDP_MD.size, "struct xdp_md")
    return _XdpMd(*XDP_MD.unpack(given)) if given else None


def _ctx_out(md: _XdpMd | None) -> bytes:
    if md is None:
        return b""
    # fmt: off
    return XDP_MD.pack(
        md.data, md.data_end, md.data_meta, md.ingress_ifindex, md.rx_queue_index, md.egress_ifindex
    )
    # fmt: on


def default_rxq(kernel: "BpfKernel") -> int:
    """Return the ``struct xdp_rxq_info`` that frames come in by when nothing else is asked for."""
    return _rxq(kernel, None)


def _rxq(kernel: "BpfKernel", md: _XdpMd | None) -> int:
    # xdp_convert_md_to_buff(): where the frame pretends to come from, the loopback device by default
    ifindex, queue = LOOPBACK_IFINDEX, 0
    if md is not None:
        if md.egress_ifindex:
            raise KernelError(OP, Errno.EINVAL, "ctx_in: egress_ifindex is not 0")
        if md.rx_queue_index and not md.ingress_ifindex:
            raise KernelError(OP, Errno.EINVAL, "ctx_in: rx_queue_index without ingress_ifindex")
        ifindex, queue = md.ingress_ifindex or LOOPBACK_IFINDEX, md.rx_queue_index
    device = kernel.device_by_ifindex(ifindex)
    if device is None and not (md is not None and md.ingress_ifindex):
        raise InternalError("the host has no loopback device")
    if device is None:
        raise KernelError(OP, Errno.ENODEV, f"ctx_in: no network device {ifindex}")
    rxq = device.xdp_rxq(queue)
    if rxq is None:
        raise KernelError(OP, Errno.EINVAL, f"ctx_in: device {ifindex} has no receive queue {queue}")
    return rxq


test_run_xdp.__test__ = False  # type: ignore[attr-defined]
