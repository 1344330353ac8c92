"""Test runs of netfilter programs (``bpf_prog_test_run_nf``, v6.18): a packet that leaves, or what the context says."""

from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import ETH_HLEN, OP, TestRunAttr, ctx_init, refuse_settings, run_repeated
from ebpfsim.test_run.skb import eth_type_trans
from ebpfsim.test_run.xdp import LOOPBACK_IFINDEX
from ebpfsim.uapi.net import EtherType
from netstack.sk_buff import NET_IP_ALIGN, NET_SKB_PAD, SHARED_INFO_BYTES, SkbStruct

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel, NetDevice

__all__ = ["test_run_nf"]

IPV4_HEADER, IPV6_HEADER = 20, 40
# struct nf_hook_state: hook, pf; pointers to devices, socket, namespace and the function that follows
STATE_BYTES = 48
STATE = Struct("<BB6x5Q")
NF_CTX = Struct("<QQ")  # struct bpf_nf_ctx: state, skb
# include/uapi/linux/netfilter.h
NF_INET_LOCAL_OUT = 3
NFPROTO_IPV4, NFPROTO_IPV6 = 2, 10
_HEADERS = {NFPROTO_IPV4: (EtherType.IP, IPV4_HEADER), NFPROTO_IPV6: (EtherType.IPV6, IPV6_HEADER)}


def test_run_nf(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Run a program on a packet; ``ctx_in`` is a ``struct nf_hook_state`` of which hook and pf may be set."""
    refuse_settings(attr, "flags", "cpu", "batch_size")
    size = len(attr.data_in)
    most = PAGE_SIZE - NET_SKB_PAD - NET_IP_ALIGN - SHARED_INFO_BYTES
    if not IPV4_HEADER <= size <= most:
        raise KernelError(OP, Errno.EINVAL, f"packet of {size} bytes, {IPV4_HEADER} to {most} are possible")
    hook, pf = _hook_state(ctx_init(attr.ctx_in, STATE_BYTES, "struct nf_hook_state"))
    device = kernel.device_by_ifindex(LOOPBACK_IFINDEX)
    if device is None:
        raise InternalError("the host has no loopback device")
    mem, skb = kernel.mem, SkbStruct.build(kernel.mem, size)
    state, ctx = mem.alloc(STATE_BYTES), mem.alloc(NF_CTX.size)
    try:
        skb.put(attr.data_in)
        if hook != NF_INET_LOCAL_OUT:
            _receive(skb, attr.data_in, device, pf)
        else:
            ethertype = _HEADERS[pf][0]
            skb.protocol = ethertype >> 8 | (ethertype & 0xFF) << 8
        # Linux looks at the hook before it takes the caller's: the device is the one to leave by
        out = device.struct_address if attr.ctx_in else 0
        mem.write(state, STATE.pack(hook, pf, 0, out, 0, 0, 0))
        mem.write(ctx, NF_CTX.pack(state, skb.address))
        retval, duration_ns = run_repeated(prog, ctx, kernel.cpus[0], max(attr.repeat, 1), stats_enabled)
    finally:
        skb.free()
        mem.free(state)
        mem.free(ctx)
    return TestRun(retval, b"", b"", duration_ns)


test_run_nf.__test__ = False  # type: ignore[attr-defined]


def _hook_state(given: bytes) -> tuple[int, int]:
    # verify_and_copy_hook_state()
    if not given:
        return NF_INET_LOCAL_OUT, NFPROTO_IPV4
    hook, pf, *pointers = STATE.unpack(given)
    if any(pointers) or pf not in _HEADERS:
        raise KernelError(OP, Errno.EINVAL, f"ctx_in: hook {hook}, pf {pf}, and nothing else may be set")
    return hook, pf


def _receive(skb: SkbStruct, data: bytes, device: "NetDevice", pf: int) -> None:
    wanted, header = _HEADERS[pf]
    if len(data) < ETH_HLEN + IPV4_HEADER:
        raise KernelError(OP, Errno.EINVAL, f"packet of {len(data)} bytes")
    protocol = eth_type_trans(skb, data, device)
    if protocol not in (EtherType.IP, EtherType.IPV6):
        raise KernelError(OP, Errno.EPROTO, f"a packet of protocol {protocol:#06x}")
    if protocol != wanted or len(data) < ETH_HLEN + header:
        raise KernelError(OP, Errno.EINVAL, f"a packet of protocol {protocol:#06x} and {len(data)} bytes for pf {pf}")
    skb.reset_network_header()
