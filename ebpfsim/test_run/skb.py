"""Test runs of programs that see a packet as ``struct __sk_buff`` (bpf_prog_test_run_skb()).

The packet arrives at the loopback device, or the one that the context names, and belongs to a socket of its own. Only
tc programs see its link-layer header; the others get it back as zeroes. What the program asks for by its return value,
or of the device, does not happen. Follows net/bpf/test_run.c, v6.18.
"""

from dataclasses import dataclass, replace
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.maps.local_storage import LocalStorageMap
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import ETH_HLEN, OP, TestRunAttr, ctx_init, finish, run_repeated
from ebpfsim.test_run.xdp import LOOPBACK_IFINDEX
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_TEST_SKB_CHECKSUM_COMPLETE
from ebpfsim.uapi.net import EtherType
from netstack.sk_buff import NET_IP_ALIGN, NET_SKB_PAD, QDISC_CB_PRIV_LEN, SHARED_INFO_BYTES, SkbStruct
from netstack.skb_csum import csum_fold, csum_partial

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel, NetDevice

__all__ = ["SKB_TYPES", "eth_type_trans", "test_run_skb"]

L2_TYPES = {ProgType.SCHED_CLS, ProgType.SCHED_ACT}
DIRECT_TYPES = L2_TYPES | {ProgType.LWT_IN, ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.CGROUP_SKB}
SKB_TYPES = DIRECT_TYPES | {ProgType.SOCKET_FILTER}

SK_BUFF_UAPI_BYTES = 192  # sizeof(struct __sk_buff)
GSO_LEGACY_MAX_SIZE, GSO_MAX_SEGS = 65536, 65535  # include/linux/netdevice.h
CHECKSUM_COMPLETE = 2  # include/linux/skbuff.h
ETH_P_802_3, ETH_P_802_2, ETH_P_802_3_MIN = 0x0001, 0x0004, 0x0600  # include/uapi/linux/if_ether.h
PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST = 1, 2, 3
AF_INET, AF_INET6 = 2, 10

# struct sock, of which programs see the addresses
SOCK_BYTES = 784
SKC_DADDR, SKC_FAMILY, SKC_STATE, SKC_V6_DADDR = 0, 16, 18, 56
TCP_CLOSE = 7  # what sock_init_data() sets, include/net/tcp_states.h


class _Field(NamedTuple):
    name: str
    off: int
    layout: Struct


_U32, _U64 = Struct("<I"), Struct("<Q")
# what a context may hold; cb is 20 bytes at 48 (convert___skb_to_skb)
FIELDS = (
    *(_Field("mark", 8, _U32), _Field("priority", 32, _U32), _Field("ingress_ifindex", 36, _U32)),
    *(_Field("ifindex", 40, _U32), _Field("tstamp", 152, _U64), _Field("wire_len", 160, _U32)),
    *(_Field("gso_segs", 164, _U32), _Field("gso_size", 176, _U32), _Field("hwtstamp", 184, _U64)),
)
CB = slice(48, 48 + QDISC_CB_PRIV_LEN)


@dataclass(slots=True)
class _Ctx:
    """What ``struct __sk_buff`` says, going in and coming out."""

    mark: int = 0
    priority: int = 0
    ingress_ifindex: int = 0
    ifindex: int = 0
    tstamp: int = 0
    wire_len: int = 0
    gso_segs: int = 0
    gso_size: int = 0
    hwtstamp: int = 0
    cb: bytes = bytes(QDISC_CB_PRIV_LEN)

    @classmethod
    def unpack(cls, data: bytes) -> "_Ctx":
        """Read a context; EINVAL when it sets what may not be set."""
        rest = bytearray(data)
        rest[CB] = bytes(QDISC_CB_PRIV_LEN)
        for field in FIELDS:
            field.layout.pack_into(rest, field.off, 0)
        if any(rest):
            off = next(off for off, byte in enumerate(rest) if byte)
            raise KernelError(OP, Errno.EINVAL, f"ctx_in: byte {off} of struct __sk_buff cannot be set")
        values = {field.name: field.layout.unpack_from(data, field.off)[0] for field in FIELDS}
        return cls(**values, cb=bytes(data[CB]))

    def pack(self) -> bytes:
        """Return the bytes of ``struct __sk_buff``."""
        data = bytearray(SK_BUFF_UAPI_BYTES)
        for field in FIELDS:
            field.layout.pack_into(data, field.off, getattr(self, field.name))
        data[CB] = self.cb
        return bytes(data)


def test_run_skb(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program on a packet that the caller makes up."""
    if attr.flags & ~BPF_F_TEST_SKB_CHECKSUM_COMPLETE or attr.cpu or attr.batch_size:
        raise KernelError(OP, Errno.EINVAL, f"flags {attr.flags:#x}, cpu {attr.cpu}, batch_size {attr.batch_size}")
    size = len(attr.data_in)
    most = PAGE_SIZE - NET_SKB_PAD - NET_IP_ALIGN - SHARED_INFO_BYTES
    if not ETH_HLEN <= size <= most:
        raise KernelError(OP, Errno.EINVAL, f"packet of {size} bytes, {ETH_HLEN} to {most} are possible")
    given = ctx_init(attr.ctx_in, SK_BUFF_UAPI_BYTES, "struct __sk_buff")
    device = _device(kernel, int(_U32.unpack_from(given, 40)[0]) if given else 0)
    sock = kernel.mem.alloc(SOCK_BYTES)
    skb = SkbStruct.build(kernel.mem, size)
    try:
        _receive(skb, attr.data_in, device, sock)
        is_l2 = prog.type in L2_TYPES
        if is_l2:
            skb.push(ETH_HLEN)
        if prog.type in DIRECT_TYPES:
            skb.compute_data_pointers()
        ctx = _Ctx.unpack(given) if given else None
        if ctx is not None:
            _from_ctx(skb, ctx)
        summed_up = bool(attr.flags & BPF_F_TEST_SKB_CHECKSUM_COMPLETE)
        if summed_up:
            skb.csum = _network_csum(skb)
            skb.ip_summed = CHECKSUM_COMPLETE
        retval, duration_ns = run_repeated(prog, skb.address, kernel.cpus[0], max(attr.repeat, 1), stats_enabled)
        if summed_up and csum_fold(skb.csum) != csum_fold(_network_csum(skb)):
            raise KernelError(OP, Errno.EBADMSG, "the checksum of the packet is not that of its data any more")
        if not is_l2:
            skb.cow_head(ETH_HLEN)
            skb.push(ETH_HLEN)
            skb.mem.fill(skb.data, ETH_HLEN)
        data_out = skb.linear()
        ctx_out = _to_ctx(skb, device, ctx).pack() if ctx is not None else b""
    finally:
        skb.free()
        _free_sock(kernel, sock)
    return TestRun(retval, finish(kernel, attr, data_out, retval), ctx_out, duration_ns)


test_run_skb.__test__ = False  # type: ignore[attr-defined]


def _free_sock(kernel: "BpfKernel", sock: int) -> None:
    for map_ in kernel.maps:
        if isinstance(map_, LocalStorageMap):
            map_.forget(sock)
    kernel.mem.free(sock)


def _device(kernel: "BpfKernel", ifindex: int) -> "NetDevice":
    device = kernel.device_by_ifindex(ifindex if ifindex > LOOPBACK_IFINDEX else LOOPBACK_IFINDEX)
    if device is None and ifindex <= LOOPBACK_IFINDEX:
        raise InternalError("the host has no loopback device")
    if device is None:
        raise KernelError(OP, Errno.ENODEV, f"ctx_in: no network device {ifindex}")
    return device


def eth_type_trans(skb: SkbStruct, data: bytes, device: "NetDevice") -> int:
    """Do with a frame what drivers do, and return its protocol."""
    skb.dev = device.struct_address
    skb.reset_mac_header()
    skb.pull(ETH_HLEN)
    skb.pkt_type = _pkt_type(data[:6], device)
    protocol = _protocol(data)
    skb.protocol = protocol >> 8 | (protocol & 0xFF) << 8
    return protocol


def _receive(skb: SkbStruct, data: bytes, device: "NetDevice", sock: int) -> None:
    # the frame as it comes from a driver, and the addresses of the socket
    mem = skb.mem
    skb.put(data)
    skb.sk = sock
    mem.store(sock + SKC_STATE, 1, TCP_CLOSE)
    protocol = eth_type_trans(skb, data, device)
    skb.reset_network_header()
    for ethertype, family, header, saddr, daddr, size, field in (
        (EtherType.IP, AF_INET, 20, 12, 16, 4, SKC_DADDR),
        (EtherType.IPV6, AF_INET6, 40, 8, 24, 16, SKC_V6_DADDR),
    ):
        if protocol == ethertype:
            if skb.len < header:
                raise KernelError(OP, Errno.EINVAL, f"packet ends after {skb.len} bytes of its network header")
            mem.store(sock + SKC_FAMILY, 2, family)
            mem.write(sock + field, mem.read(skb.data + daddr, size))
            mem.write(sock + field + size, mem.read(skb.data + saddr, size))


def _network_csum(skb: SkbStruct) -> int:
    # from the network header to the end
    network = skb.head + skb.network_header
    return csum_partial(skb.mem.read(network, skb.data + skb.len - network))


def _pkt_type(dest: bytes, device: "NetDevice") -> int:
    if dest == device.mac:
        return 0
    if dest[0] & 1:
        return PACKET_BROADCAST if dest == device.broadcast else PACKET_MULTICAST
    return PACKET_OTHERHOST


def _protocol(data: bytes) -> int:
    ethertype = int.from_bytes(data[12:14], "big")
    if ethertype >= ETH_P_802_3_MIN:
        return ethertype
    # a length: raw 802.3 when the payload says so, else LLC
    return ETH_P_802_3 if data[14:16] == b"\xff\xff" else ETH_P_802_2


def _from_ctx(skb: SkbStruct, ctx: _Ctx) -> None:
    skb.mark, skb.priority, skb.skb_iif, skb.tstamp = ctx.mark, ctx.priority, ctx.ingress_ifindex, ctx.tstamp
    skb.mem.write(skb.priv, ctx.cb)
    if ctx.wire_len and not skb.len <= ctx.wire_len <= GSO_LEGACY_MAX_SIZE:
        problem = f"ctx_in: wire_len {ctx.wire_len}, {skb.len} to {GSO_LEGACY_MAX_SIZE} are possible"
        raise KernelError(OP, Errno.EINVAL, problem)
    skb.pkt_len = ctx.wire_len or skb.len
    if ctx.gso_segs > GSO_MAX_SEGS:
        raise KernelError(OP, Errno.EINVAL, f"ctx_in: {ctx.gso_segs} segments, at most {GSO_MAX_SEGS}")
    shared = skb.shinfo
    shared.gso_segs, shared.gso_size, shared.hwtstamp = ctx.gso_segs, ctx.gso_size, ctx.hwtstamp


def _to_ctx(skb: SkbStruct, device: "NetDevice", given: _Ctx) -> _Ctx:
    # convert_skb_to___skb(): gso_size stays what was given
    return replace(
        given,
        mark=skb.mark,
        priority=skb.priority,
        ingress_ifindex=skb.skb_iif,
        ifindex=device.ifindex,
        tstamp=skb.tstamp,
        wire_len=skb.pkt_len,
        gso_segs=skb.shinfo.gso_segs,
        hwtstamp=skb.shinfo.hwtstamp,
        cb=skb.mem.read(skb.priv, QDISC_CB_PRIV_LEN),
    )
