"""Rows of ``ebpfsim.scenario.hooks`` for flows, packets and sockets: network namespace, netfilter, groups."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_reuseport import AttachedReuseport, AttachedSocketFilter
from ebpfsim.errors import InputError
from ebpfsim.scenario.hook_row import Attached, HookRow
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


SOCKET_HOOKS: Mapping[str, HookRow] = {
    "flow_dissector": HookRow("", (), _netns),
    "sk_lookup": HookRow("", (), _netns),
    "netfilter": HookRow("target", ("priority",), _netfilter),
    "socket_filter": HookRow("socket", (), _socket_filter),
    "sk_reuseport": HookRow("socket", (), _reuseport),
}
