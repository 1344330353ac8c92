"""THE table of hooks that scenarios can name: which keys an attachment has, and what attaches it.

A row is all that another hook needs; ``check`` looks at the keys, ``run`` calls ``attach``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.errors import InputError
from ebpfsim.scenario.hook_row import Attached, HookRow
from ebpfsim.scenario.hooks_objects import OBJECT_HOOKS
from ebpfsim.scenario.hooks_sockets import SOCKET_HOOKS
from ebpfsim.scenario.hooks_tracing import TRACING_HOOKS
from ebpfsim.uapi.net import XdpAction
from hooks.tc import TcAct
from netstack.flow_dissector import FLOW_DISSECTOR_VERDICTS
from netstack.lwt_bpf import LWT_VERDICTS
from netstack.netkit import NETKIT_NAMES
from netstack.nf_hook import NF_VERDICTS
from netstack.tc import TCX_NAMES

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import AttachBlock
    from ebpfsim.simulation import Host

__all__ = ["HOOKS", "LATER_HOOKS", "VERDICTS", "Attached", "HookRow"]


def _xdp(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    mode = "" if block.mode == "auto" else block.mode
    return host.attach_xdp(fd, str(block.device), mode=mode, label=name)


def _relative(running: "Running", name: str | None) -> AttachedLink | None:
    if name is None:
        return None
    found = running.attachments.get(name)
    if found is None or not isinstance(found.link, AttachedLink):
        raise InputError("", f"link '{name}' is not attached at this time")
    return found.link


def _tcx(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    before, after = _relative(running, block.before), _relative(running, block.after)
    direction = block.hook.removeprefix("tcx_")
    return host.attach_tcx(fd, str(block.device), direction, before=before, after=after, label=name)


def _netkit(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    before, after = _relative(running, block.before), _relative(running, block.after)
    end = block.hook.removeprefix("netkit").removeprefix("_")
    return host.attach_netkit(fd, str(block.device), end, before=before, after=after, label=name)


def _tc(_running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    direction, device = block.hook.removeprefix("tc_"), str(block.device)
    if host.device(device).qdisc is None:
        host.tc_qdisc_add(device, "clsact")
    return host.tc_filter_add(
        device, direction, fd, pref=block.pref, handle=block.handle, protocol=block.protocol, label=name
    )


def _cgroup(running: "Running", host: "Host", block: "AttachBlock", fd: int, name: str) -> Attached:
    before, after = _relative(running, block.before), _relative(running, block.after)
    kind = "sock_ops" if block.hook == "sock_ops" else ""
    return host.attach_cgroup(fd, str(block.cgroup), kind, before=before, after=after, label=name)


_ORDERED = ("before", "after")
_FILTER = ("pref", "handle", "protocol")
HOOKS: Mapping[str, HookRow] = {
    "xdp": HookRow("device", ("mode",), _xdp),
    "tcx_ingress": HookRow("device", _ORDERED, _tcx),
    "tcx_egress": HookRow("device", _ORDERED, _tcx),
    **{name: HookRow("device", _ORDERED, _netkit) for name in ("netkit", "netkit_primary", "netkit_peer")},
    "tc_ingress": HookRow("device", _FILTER, _tc),
    "tc_egress": HookRow("device", _FILTER, _tc),
    **{name: HookRow("cgroup", _ORDERED, _cgroup) for name in ("cgroup", "sock_ops")},
    **TRACING_HOOKS,
    **SOCKET_HOOKS,
    **OBJECT_HOOKS,
}
# hooks of Linux that scenarios cannot name yet
LATER_HOOKS = ("lwt_seg6local",)
VERDICTS = (
    *(action.name for action in XdpAction),
    *TCX_NAMES.values(),
    *NETKIT_NAMES.values(),
    *(f"TC_ACT_{code.name}" for code in TcAct),
    *("allow", "deny"),
    *("SK_PASS", "SK_DROP"),
    *FLOW_DISSECTOR_VERDICTS.values(),
    *NF_VERDICTS.values(),
    *LWT_VERDICTS.values(),
)
