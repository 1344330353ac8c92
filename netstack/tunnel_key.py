"""What a packet says of its tunnel: ``struct ip_tunnel_info`` (include/net/dst_metadata.h, ip_tunnels.h, v6.18), and
the helpers by which programs read and write it (net/core/filter.c).

A tunnel device in metadata mode hangs it on what it has received and sends by it. While programs look at a packet it
lies in RAM as ``struct metadata_dst``, which ``skb->_skb_refdst`` points to; what a program sets is its CPU's own.
Left out: tunnels of IPv6.
"""

from dataclasses import dataclass, replace
from struct import Struct

from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.isa.alu import u32
from ebpfsim.memory import Memory
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from netstack.sk_buff import SkbStruct

__all__ = ["HELPERS", "TunnelFlag", "TunnelInfo", "load_info", "store_info"]

IP_TUNNEL_INFO_TX = 0x01
IP_TUNNEL_OPTS_MAX = 255
# include/uapi/linux/bpf.h
BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, BPF_F_DONT_FRAGMENT, BPF_F_SEQ_NUMBER, BPF_F_NO_TUNNEL_KEY = 1, 2, 4, 8, 16
BPF_F_TUNINFO_FLAGS = 1 << 4
SET_FLAGS = BPF_F_TUNINFO_IPV6 | BPF_F_ZERO_CSUM_TX | BPF_F_DONT_FRAGMENT | BPF_F_SEQ_NUMBER | BPF_F_NO_TUNNEL_KEY
# struct bpf_tunnel_key with IPv4 addresses: id, remote, 12 bytes, tos, ttl, flags, label, local, 12 bytes
_KEY = Struct("<II12xBBHII12x")
# older layouts of it that are accepted: up to remote_ipv6[1], tunnel_ext, tunnel_label, local_ipv6[0]
COMPAT_BYTES = (8, 22, 24, 28)
METADATA_DST_BYTES = 512
_INFO = "u.tun_info"


class TunnelFlag:
    """``IP_TUNNEL_*_BIT`` as masks, include/uapi/linux/if_tunnel.h."""

    CSUM, KEY, SEQ, NO_KEY, DONT_FRAGMENT = 1 << 0, 1 << 2, 1 << 3, 1 << 7, 1 << 8
    OAM, CRIT_OPT, GENEVE_OPT, VXLAN_OPT, NOCACHE, ERSPAN_OPT, GTP_OPT = (1 << bit for bit in range(9, 16))
    OPTIONS = GENEVE_OPT | VXLAN_OPT | ERSPAN_OPT | GTP_OPT


@dataclass(frozen=True, slots=True)
class TunnelInfo:
    """Both ends as IPv4 addresses; ``mode`` has IP_TUNNEL_INFO_TX for what is to be sent."""

    tun_id: int = 0
    src: int = 0
    dst: int = 0
    flags: int = 0
    tos: int = 0
    ttl: int = 0
    options: bytes = b""
    mode: int = 0


def _place(member: str) -> tuple[int, int]:
    return place("metadata_dst", f"{_INFO}.{member}")


def _fields() -> dict[str, tuple[int, int, bool]]:
    # where each is, its size, and whether it is in network order
    return {
        "tun_id": (*_place("key.tun_id"), True),
        "src": (*_place("key.u.ipv4.src"), True),
        "dst": (*_place("key.u.ipv4.dst"), True),
        "flags": (*_place("key.tun_flags"), False),
        "tos": (*_place("key.tos"), False),
        "ttl": (*_place("key.ttl"), False),
        "mode": (*_place("mode"), False),
    }


def store_info(mem: Memory, address: int, info: TunnelInfo) -> None:
    """Write a ``struct metadata_dst``."""
    for name, (off, size, big) in _fields().items():
        value = getattr(info, name)
        mem.write(address + off, value.to_bytes(size, "big" if big else "little"))
    off, size = _place("options_len")
    mem.store(address + off, size, len(info.options))
    mem.write(address + _options_off(), info.options)


def load_info(mem: Memory, address: int) -> TunnelInfo:
    """Read a ``struct metadata_dst``."""
    values = {
        name: int.from_bytes(mem.read(address + off, size), "big" if big else "little")
        for name, (off, size, big) in _fields().items()
    }
    off, size = _place("options_len")
    options = mem.read(address + _options_off(), mem.load(address + off, size))
    return TunnelInfo(**values, options=options)


def _options_off() -> int:
    # ip_tunnel_info_opts(): behind the structure
    off, size = place("metadata_dst", _INFO)
    return off + size


def md_dst(run: Run) -> int:
    """Return the address of the CPU's own ``struct metadata_dst`` (bpf_get_skb_set_tunnel_proto)."""
    found = run.cpu.scratch.get("md_dst")
    if not isinstance(found, int):
        found = run.cpu.scratch["md_dst"] = run.mem.alloc(METADATA_DST_BYTES, what="struct metadata_dst")
    return found


def bpf_skb_get_tunnel_key(run: Run, address: int, to: int, size: int, flags: int, _r5: int) -> int:
    """Tell where the packet came through; EINVAL, EPROTO, and zeroes then."""
    size, refdst = u32(size), SkbStruct(run.mem, address).skb_refdst
    result = -Errno.EINVAL
    if refdst and not flags & ~(BPF_F_TUNINFO_IPV6 | BPF_F_TUNINFO_FLAGS):
        if flags & BPF_F_TUNINFO_IPV6:
            result = -Errno.EPROTO
        elif size == _KEY.size or size in COMPAT_BYTES:
            info = load_info(run.mem, refdst)
            shown = _be16(info.flags & 0xFFFF) if flags & BPF_F_TUNINFO_FLAGS else 0
            key = _KEY.pack(u32(info.tun_id), info.src, info.tos, info.ttl, shown, 0, info.dst)
            run.mem.write(to, key[:size])
            return 0
    run.mem.fill(to, size)
    return result


def bpf_skb_set_tunnel_key(run: Run, address: int, source: int, size: int, flags: int, _r5: int) -> int:
    """Say where the packet shall go through; EINVAL."""
    size = u32(size)
    if flags & ~SET_FLAGS or (size != _KEY.size and size not in COMPAT_BYTES):
        return -Errno.EINVAL
    if flags & BPF_F_TUNINFO_IPV6:
        raise NotModelled("bpf_skb_set_tunnel_key() with addresses of IPv6", "net/core/filter.c")
    tun_id, remote, tos, ttl, ext, label, local = _KEY.unpack(run.mem.read(source, size).ljust(_KEY.size, b"\0"))
    if label or ext:
        return -Errno.EINVAL
    bits = TunnelFlag.NOCACHE
    for flag, bit, wanted in (
        (BPF_F_DONT_FRAGMENT, TunnelFlag.DONT_FRAGMENT, True),
        (BPF_F_ZERO_CSUM_TX, TunnelFlag.CSUM, False),
        (BPF_F_SEQ_NUMBER, TunnelFlag.SEQ, True),
        (BPF_F_NO_TUNNEL_KEY, TunnelFlag.KEY, False),
    ):
        if bool(flags & flag) is wanted:
            bits |= bit
    info = TunnelInfo(tun_id, local, remote, bits, tos, ttl, b"", IP_TUNNEL_INFO_TX)
    store_info(run.mem, md_dst(run), info)
    SkbStruct(run.mem, address).skb_refdst = md_dst(run)
    return 0


def bpf_skb_get_tunnel_opt(run: Run, address: int, to: int, size: int, _r4: int, _r5: int) -> int:
    """Copy the options that the packet came with and return their length; ENOENT, ENOMEM, and zeroes then."""
    size, refdst = u32(size), SkbStruct(run.mem, address).skb_refdst
    info = load_info(run.mem, refdst) if refdst else None
    if info is None or not info.flags & TunnelFlag.OPTIONS:
        run.mem.fill(to, size)
        return -Errno.ENOENT
    if size < len(info.options):
        run.mem.fill(to, size)
        return -Errno.ENOMEM
    run.mem.write(to, info.options.ljust(size, b"\0"))
    return len(info.options)


def bpf_skb_set_tunnel_opt(run: Run, address: int, source: int, size: int, _r4: int, _r5: int) -> int:
    """Give the packet options, behind bpf_skb_set_tunnel_key(); EINVAL, ENOMEM."""
    size = u32(size)
    if SkbStruct(run.mem, address).skb_refdst != md_dst(run) or size & 3:
        return -Errno.EINVAL
    if size > IP_TUNNEL_OPTS_MAX:
        return -Errno.ENOMEM
    info = load_info(run.mem, md_dst(run))
    flags = info.flags | TunnelFlag.OPTIONS if size else info.flags
    store_info(run.mem, md_dst(run), replace(info, options=run.mem.read(source, size), flags=flags))
    return 0


def _be16(value: int) -> int:
    return value >> 8 | (value & 0xFF) << 8


HELPERS: dict[int, Helper] = {
    HELPER_IDS["bpf_skb_get_tunnel_key"]: bpf_skb_get_tunnel_key,
    HELPER_IDS["bpf_skb_set_tunnel_key"]: bpf_skb_set_tunnel_key,
    HELPER_IDS["bpf_skb_get_tunnel_opt"]: bpf_skb_get_tunnel_opt,
    HELPER_IDS["bpf_skb_set_tunnel_opt"]: bpf_skb_set_tunnel_opt,
}
