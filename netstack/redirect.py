"""XDP_REDIRECT: from what a redirect helper asked for to frames on another device.

Follows ``xdp_do_redirect`` and ``xdp_do_generic_redirect`` of net/core/filter.c, and kernel/bpf/devmap.c, v6.18.
Natively, frames wait in a bulk queue per target device and go out 16 at a time, the rest at the end of the poll;
programs of devmap entries run on them there. Generically, each goes out at once.

Frames for other CPUs are in ``netstack.cpumap``, AF_XDP sockets in ``netstack.xsk``. Left out: bonds.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno, errno_name
from ebpfsim.errors import NotModelled
from ebpfsim.maps.cpumap import CpumapEntry, CpumapMap
from ebpfsim.maps.devmap import DevmapEntry, DevmapMap
from ebpfsim.maps.targets import MAP
from ebpfsim.maps.xskmap import SocketTarget, XskmapMap
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.flags import BPF_F_BROADCAST, BPF_F_EXCLUDE_INGRESS
from ebpfsim.uapi.net import XdpAction
from netstack.bpf_net_context import BY_IFINDEX, BpfNetContext, bpf_net_ctx_get
from netstack.cpumap import Waiting, cpu_map_enqueue, cpu_map_flush, cpu_map_generic_redirect
from netstack.headers import ETH_HLEN, VLAN_HLEN
from netstack.xdp_buff import XdpBuff, rxq_index
from netstack.xdp_run import XdpNetDevice, XdpRunner
from netstack.xsk import XdpSock, XskFile

if TYPE_CHECKING:
    from netstack.device import NetDevice

__all__ = [
    "DEV_MAP_BULK_SIZE",
    "BulkQueue",
    "plain_target",
    "xdp_do_flush",
    "xdp_do_generic_redirect",
    "xdp_do_redirect",
]

DEV_MAP_BULK_SIZE = 16  # XDP_BULK_QUEUE_SIZE, include/net/xdp.h

_DEVMAPS = (MapType.DEVMAP, MapType.DEVMAP_HASH)


class BulkQueue:
    """Frames on their way to one device (``struct xdp_dev_bulk_queue``).

    ``dev_rx`` and ``prog`` are those of the first frame since the last flush and hold for all of them; the queue keeps
    a reference on the program, as it may leave its map before the flush.
    """

    __slots__ = ("dev", "dev_rx", "frames", "prog")

    def __init__(self, dev: XdpNetDevice, dev_rx: XdpNetDevice, prog: Prog | None) -> None:
        self.dev = dev
        self.dev_rx = dev_rx
        self.prog = prog
        self.frames: list[XdpBuff] = []
        if prog is not None:
            prog.get()


class _Target:
    # what the helper asked for, taken out of bpf_redirect_info as every redirect does first
    __slots__ = ("broadcast", "entry", "flags", "index", "map", "map_id", "map_type")

    def __init__(self, context: BpfNetContext, kernel: Runtime) -> None:
        found = context.ri.take()
        self.map_type, self.map_id, self.flags, self.index = found.map_type, found.map_id, found.flags, found.tgt_index
        self.broadcast = bool(found.flags & BPF_F_BROADCAST)
        self.map = cast(DevmapMap, kernel.map_at(found.map)) if self.broadcast and found.map else None
        self.entry = _entry(kernel, found.tgt_value) if found.map_type else None


def _entry(kernel: Runtime, address: int) -> DevmapEntry | CpumapEntry | XdpSock | None:
    # what tgt_value points to
    if not address:
        return None
    holder = cast("DevmapMap | CpumapMap | XskmapMap", kernel.map_at(kernel.mem.load(address + MAP, 8)))
    found = holder.table.at(address)
    return cast(XskFile, found.sock).sock if isinstance(found, SocketTarget) else found


def xdp_do_redirect(runner: XdpRunner, dev: XdpNetDevice, xdp: XdpBuff, prog: Prog, cpu: Cpu) -> int:
    """Queue a frame for where its program sent it: 0, or a negative errno and the frame stays the caller's."""
    context = bpf_net_ctx_get(cpu)
    target = _Target(context, runner.kernel)
    if target.map_type in _DEVMAPS:
        if target.broadcast:
            err = _dev_map_enqueue_multi(runner, context, target, xdp, dev, cpu)
        else:
            assert isinstance(target.entry, DevmapEntry)
            err = _xdp_enqueue(runner, context, _device(target.entry), xdp, dev, _prog(target.entry), cpu)
    elif target.map_type == MapType.CPUMAP:
        cpu.charge(runner.costs.redirect_ps)
        source = cast("NetDevice", dev)
        waiting = Waiting(xdp.xdp_frame(), source)
        cpu_map_enqueue(source.net, context, _cpu_entry(target), target.map_id, waiting, cpu)
        xdp.recycle()
        err = 0
    elif target.map_type == MapType.XSKMAP:
        cpu.charge(runner.costs.redirect_ps)
        err = _to_xsk(target, xdp, dev)
        if not err:
            if target.entry not in context.xsk_flush_list:
                context.xsk_flush_list.append(cast(XdpSock, target.entry))
            xdp.recycle()
    else:
        fwd = _device_by_index(dev, target)
        err = fwd if isinstance(fwd, int) else _xdp_enqueue(runner, context, fwd, xdp, dev, None, cpu)
    if runner.trace.watched:
        _trace(runner, dev, prog, target, err, cpu)
    if err:
        _note_error(runner, dev, prog, target, err, cpu)
    return err


def plain_target(runner: XdpRunner, dev: XdpNetDevice, cpu: Cpu) -> XdpNetDevice | None:
    """Return the device that ``bpf_redirect_info`` asks for, when it is one device without a program."""
    ri = bpf_net_ctx_get(cpu).ri
    if ri.map_type in _DEVMAPS:
        entry = _entry(runner.kernel, ri.tgt_value)
        if ri.flags & BPF_F_BROADCAST or not isinstance(entry, DevmapEntry) or entry.prog is not None:
            return None
        return _device(entry)
    if ri.map_type == MapType.UNSPEC and ri.map_id == BY_IFINDEX:
        return dev.net.dev_get_by_index(ri.tgt_index)
    return None


def xdp_do_generic_redirect(runner: XdpRunner, dev: XdpNetDevice, xdp: XdpBuff, prog: Prog, cpu: Cpu) -> int:
    """Send a frame of generic XDP where its program wants it: 0, or a negative errno and the frame is to be dropped."""
    target = _Target(bpf_net_ctx_get(cpu), runner.kernel)
    if target.map_type in _DEVMAPS:
        if target.broadcast:
            err = _dev_map_redirect_multi(runner, target, xdp, dev, cpu)
        else:
            assert isinstance(target.entry, DevmapEntry)
            err = _dev_map_generic_redirect(runner, target.entry, xdp, dev, cpu)
    elif target.map_type == MapType.CPUMAP:
        source = cast("NetDevice", dev)
        taken = cpu_map_generic_redirect(source.net, _cpu_entry(target), target.map_id, source, xdp.xdp_frame(), cpu)
        err = 0 if taken else -Errno.ENOSPC
    elif target.map_type == MapType.XSKMAP:
        # xsk_generic_rcv()
        err = _to_xsk(target, xdp, dev)
        if not err:
            cast(XdpSock, target.entry).flush(cpu)
    else:
        fwd = _device_by_index(dev, target)
        err = fwd if isinstance(fwd, int) else _xdp_ok_fwd_dev(fwd, xdp)
        if not isinstance(fwd, int) and not err:
            _generic_xdp_tx(runner, fwd, xdp, cpu)
    if runner.trace.watched:
        _trace(runner, dev, prog, target, err, cpu)
    if err:
        _note_error(runner, dev, prog, target, err, cpu)
    return err


def xdp_do_flush(runner: XdpRunner, cpu: Cpu) -> None:
    """Send what waits in bulk queues, the device that was last to get a frame first; a driver's poll ends with this."""
    context = bpf_net_ctx_get(cpu)
    if context.cpu_queues:
        cpu_map_flush(context, cpu)
    xsk_flush_list, context.xsk_flush_list = context.xsk_flush_list, []
    flush_list, context.dev_flush_list = context.dev_flush_list, []
    context.bulk_queues.clear()
    for queue in reversed(flush_list):
        _bq_xmit_all(runner, queue, cpu)
        if queue.prog is not None:
            queue.prog.put()
    for sock in reversed(xsk_flush_list):
        sock.flush(cpu)


def _to_xsk(target: _Target, xdp: XdpBuff, dev: XdpNetDevice) -> int:
    frame = xdp.xdp_frame()
    return cast(XdpSock, target.entry).receive(frame.data, frame.metadata, dev, rxq_index(xdp.mem, xdp.pointers().rxq))


def _device(entry: DevmapEntry) -> XdpNetDevice:
    return cast(XdpNetDevice, entry.device)


def _cpu_entry(target: _Target) -> CpumapEntry:
    return cast(CpumapEntry, target.entry)


def _prog(entry: DevmapEntry) -> Prog | None:
    return cast("Prog | None", entry.prog)


def _device_by_index(dev: XdpNetDevice, target: _Target) -> XdpNetDevice | int:
    # no helper was called, or its target was used up: EBADRQC
    if target.map_type != MapType.UNSPEC:
        raise NotModelled(f"XDP_REDIRECT to a {MapType(target.map_type).lower}", "net/core/filter.c")
    if target.map_id != BY_IFINDEX:
        return -Errno.EBADRQC
    return dev.net.dev_get_by_index(target.index) or -Errno.EINVAL


def _xdp_ok_fwd_dev(fwd: XdpNetDevice, xdp: XdpBuff) -> int:
    # every modelled device is up
    return -Errno.EMSGSIZE if xdp.size() > fwd.mtu + ETH_HLEN + VLAN_HLEN else 0


def _trace(runner: XdpRunner, dev: XdpNetDevice, prog: Prog, target: _Target, err: int, cpu: Cpu) -> None:
    # _trace_xdp_redirect(), _trace_xdp_redirect_map() and their kin with an error
    to: object = None
    if isinstance(target.entry, DevmapEntry) and target.map_type in _DEVMAPS:
        to = target.entry.address
    elif target.map_id == BY_IFINDEX:
        to = dev.net.dev_get_by_index(target.index)
    place = (target.map_type, target.map_id, target.index)
    runner.trace.xdp_redirect(dev, prog, to, err, place, cpu)


def _note_error(runner: XdpRunner, dev: XdpNetDevice, prog: Prog, target: _Target, err: int, cpu: Cpu) -> None:
    # tracepoint xdp:xdp_redirect_err, or xdp_redirect_map_err
    is_map = target.map_id != BY_IFINDEX
    to_ifindex = 0 if is_map else target.index
    map_id, map_index = (target.map_id, target.index) if is_map else (0, 0)
    text = (
        f"prog_id={prog.id} action=REDIRECT ifindex={dev.ifindex} to_ifindex={to_ifindex} err={err}"
        f" map_id={map_id} map_index={map_index}"
    )
    details: dict[str, int | str] = {"prog_id": prog.id, "ifindex": dev.ifindex, "errno": errno_name(err)}
    runner.note(cpu, "xdp_redirect_err", text, details)


# ---- native ---------------------------------------------------------------------------------------------------------


def _xdp_enqueue(
    runner: XdpRunner,
    context: BpfNetContext,
    fwd: XdpNetDevice,
    xdp: XdpBuff,
    dev_rx: XdpNetDevice,
    prog: Prog | None,
    cpu: Cpu,
) -> int:
    if fwd.ndo_xdp_xmit is None:
        return -Errno.EOPNOTSUPP
    err = _xdp_ok_fwd_dev(fwd, xdp)
    if not err:
        _bq_enqueue(runner, context, fwd, xdp, dev_rx, prog, cpu)
    return err


def _bq_enqueue(
    runner: XdpRunner,
    context: BpfNetContext,
    dev: XdpNetDevice,
    xdp: XdpBuff,
    dev_rx: XdpNetDevice,
    prog: Prog | None,
    cpu: Cpu,
) -> None:
    queue = context.bulk_queues.get(dev.ifindex)
    if queue is None:
        queue = context.bulk_queues[dev.ifindex] = BulkQueue(dev, dev_rx, prog)
        context.dev_flush_list.append(queue)
    if len(queue.frames) == DEV_MAP_BULK_SIZE:
        _bq_xmit_all(runner, queue, cpu)
    cpu.charge(runner.costs.redirect_ps)
    queue.frames.append(xdp)


def _bq_xmit_all(runner: XdpRunner, queue: BulkQueue, cpu: Cpu) -> None:
    frames, queue.frames = queue.frames, []
    going = [xdp for xdp in frames if queue.prog is None or _run_egress(runner, queue, queue.prog, xdp, cpu)]
    sent = err = 0
    if going:
        xmit = queue.dev.ndo_xdp_xmit
        assert xmit is not None
        sent = xmit([xdp.xdp_frame() for xdp in going], cpu)
        if sent < 0:
            sent, err = 0, sent
    drops = len(frames) - sent
    runner.trace.xdp_devmap_xmit(queue.dev_rx, queue.dev, sent, drops, err, cpu)
    if drops:
        # tracepoint xdp:xdp_devmap_xmit
        text = f"ndo_xdp_xmit from_ifindex={queue.dev_rx.ifindex} to_ifindex={queue.dev.ifindex} action=REDIRECT"
        text += f" sent={sent} drops={drops} err={err}"
        runner.note(cpu, "xdp_devmap_xmit", text, {"sent": sent, "drops": drops})
    for xdp in frames:
        xdp.recycle()


def _run_egress(runner: XdpRunner, queue: BulkQueue, prog: Prog, xdp: XdpBuff, cpu: Cpu) -> bool:
    # dev_map_bpf_prog_run: the program sees the device the frame came in by, but queue 0
    runner.egress_rxq.set_dev(_dev_address(runner, queue.dev_rx))
    runner.kernel.mem.store(runner.egress_txq, 8, _dev_address(runner, queue.dev))
    xdp.set_rxq(runner.egress_rxq.address)
    xdp.set_txq(runner.egress_txq)
    run = runner.bpf_prog_run_xdp(prog, xdp, cpu, "xdp_devmap", queue.dev)
    return run.verdict is XdpAction.XDP_PASS


def _dev_address(runner: XdpRunner, dev: XdpNetDevice) -> int:
    # the first member of struct xdp_rxq_info; every device has a queue 0
    rxq = dev.xdp_rxq(0)
    assert rxq is not None
    return runner.kernel.mem.load(rxq, 8)


def _dev_map_enqueue_multi(
    runner: XdpRunner, context: BpfNetContext, target: _Target, xdp: XdpBuff, dev_rx: XdpNetDevice, cpu: Cpu
) -> int:
    if target.map is None:
        return -Errno.ENOENT
    valid = [entry for entry in _broadcast(target.map, target.flags, dev_rx) if _is_valid_dst(_device(entry), xdp)]
    # all but the last get clones
    for entry in valid[:-1]:
        clone = runner.spare.take()
        clone.copy_of(xdp)
        _bq_enqueue(runner, context, _device(entry), clone, dev_rx, _prog(entry), cpu)
    if valid:
        _bq_enqueue(runner, context, _device(valid[-1]), xdp, dev_rx, _prog(valid[-1]), cpu)
    else:
        xdp.recycle()
    return 0


def _is_valid_dst(dev: XdpNetDevice, xdp: XdpBuff) -> bool:
    return dev.ndo_xdp_xmit is not None and _xdp_ok_fwd_dev(dev, xdp) == 0


def _broadcast(map_: DevmapMap, flags: int, dev_rx: XdpNetDevice) -> Iterator[DevmapEntry]:
    for entry in map_.targets():
        if not flags & BPF_F_EXCLUDE_INGRESS or entry.ifindex != dev_rx.ifindex:
            yield entry


# ---- generic --------------------------------------------------------------------------------------------------------


def _generic_xdp_tx(runner: XdpRunner, dev: XdpNetDevice, xdp: XdpBuff, cpu: Cpu) -> None:
    cpu.charge(runner.costs.redirect_ps)
    dev.transmit(xdp.frame(), cpu)


def _dev_map_generic_redirect(
    runner: XdpRunner, entry: DevmapEntry, xdp: XdpBuff, dev_rx: XdpNetDevice, cpu: Cpu
) -> int:
    dev, prog = _device(entry), _prog(entry)
    err = _xdp_ok_fwd_dev(dev, xdp)
    if err:
        return err
    if prog is not None:
        # bpf_prog_run_generic_xdp prepares the buffer anew: no metadata, the queue that the frame came in by
        runner.kernel.mem.store(runner.egress_txq, 8, _dev_address(runner, dev))
        xdp.forget_metadata()
        xdp.set_txq(runner.egress_txq)
        if runner.bpf_prog_run_xdp(prog, xdp, cpu, "xdp_devmap", dev).verdict is not XdpAction.XDP_PASS:
            return 0
    _generic_xdp_tx(runner, dev, xdp, cpu)
    return 0


def _dev_map_redirect_multi(runner: XdpRunner, target: _Target, xdp: XdpBuff, dev_rx: XdpNetDevice, cpu: Cpu) -> int:
    if target.map is None:
        return -Errno.ENOENT
    entries = list(_broadcast(target.map, target.flags, dev_rx))
    for entry in entries[:-1]:
        clone = runner.spare.take()
        clone.copy_of(xdp)
        err = _dev_map_generic_redirect(runner, entry, clone, dev_rx, cpu)
        clone.recycle()
        if err:
            return err
    return _dev_map_generic_redirect(runner, entries[-1], xdp, dev_rx, cpu) if entries else 0
