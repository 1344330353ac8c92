"""Rows of ``ebpfsim.scenario.hooks`` for flows, packets and sockets: network namespace, netfilter, groups."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_lwt import AttachedLwt
from ebpfsim.attached_reuseport import AttachedReuseport, AttachedSocketFilter
from ebpfsim.errors import InputError
from ebpfsim.scenario.hook_row import Attached, HookRow
from ebpfsim.syscall.attach_types import SOCKMAP_TYPES
from ebpfsim.uapi.bpf import AttachType, MapType
from hooks.link import LinkBase
from netstack.lwt_bpf import LWT_HOOKS
from netstack.sock import UdpSocket

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["SOCKET_HOOKS"]


def _netns(_running: "Running", host: "Host", _block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_netns(fd, label=name)


def _reuseport(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    return AttachedReuseport(host, _socket(running, host, block), host.prog(fd), name)


def _socket_filter(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    return AttachedSocketFilter(host, _socket(running, host, block), host.prog(fd), name)


def _socket(running: "Running", host: "Host", block: "AttachBlock") -> UdpSocket:
    sock = running.sockets.get(str(block.socket))
    if sock is None or sock.net is not host.net:
        raise InputError("", f"host '{host.name}' has no socket '{block.socket}'")
    return sock


def _netfilter(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    return host.attach_netfilter(fd, str(block.target), priority=block.priority, label=name)


def _sockmap(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLink:
    kind = host.prog(fd).expected_attach_type
    if block.hook == "sk_msg" or kind not in SOCKMAP_TYPES:
        kind = AttachType.SK_MSG_VERDICT if block.hook == "sk_msg" else AttachType.SK_SKB_VERDICT
    if (target := running.map_of(str(block.map))).type not in (MapType.SOCKMAP, MapType.SOCKHASH):
        raise InputError("", f"map '{block.map}' holds no sockets", "a sockmap or sockhash")
    link_fd = host.bpf.link_create(fd, target.fd, kind)
    link = host.kernel.fds.lookup(link_fd)
    assert isinstance(link, LinkBase)
    link.label = name
    link.get()
    host.bpf.close(link_fd)
    return AttachedLink(host, link)


def _lwt(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> AttachedLwt:
    return AttachedLwt(host, str(block.target), block.hook, host.prog(fd), name)


SOCKET_HOOKS: Mapping[str, HookRow] = {
    "flow_dissector": HookRow("", (), _netns),
    "sk_lookup": HookRow("", (), _netns),
    "netfilter": HookRow("target", ("priority",), _netfilter),
    **{name: HookRow("target", (), _lwt) for name in LWT_HOOKS},
    "sk_msg": HookRow("map", ("map",), _sockmap),
    "sk_skb": HookRow("map", ("map",), _sockmap),
    "socket_filter": HookRow("socket", (), _socket_filter),
    "sk_reuseport": HookRow("socket", (), _reuseport),
}
