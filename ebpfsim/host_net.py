"""Attaching programs to the network of a host: tcx, tc, in the words of ip(8), tc(8) and libbpf."""

from collections.abc import Sequence
from types import EllipsisType
from typing import TYPE_CHECKING

from ebpfsim.attached import AttachedLink
from ebpfsim.attached_filter import AttachedFilter
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.suggest import did_you_mean
from ebpfsim.syscall.attach_types import check_attach_type
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_F_AFTER, BPF_F_BEFORE, BPF_F_ID, BPF_F_LINK, BPF_F_PREORDER, XDP_FLAGS_REPLACE
from ebpfsim.uapi.net import EtherType
from hooks.cgroup import ATTACH_TYPES as CGROUP_ATTACH_TYPES
from hooks.cgroup import Cgroup, cgroup_link_attach
from hooks.netfilter import HOOKS as NF_HOOKS
from hooks.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from hooks.netkit import netkit_state
from hooks.netns import netns_bpf_link_create
from hooks.tc import ETH_P_ALL, ActBpf, ClsBpf, TcAct, TcQdisc, check_request
from hooks.tcx import tcx_link_attach

if TYPE_CHECKING:
    from ebpfsim.kernel import Kernel
    from ebpfsim.loader import Program
    from ebpfsim.syscall import Bpf
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["HostNet"]

DIRECTIONS = {"ingress": AttachType.TCX_INGRESS, "egress": AttachType.TCX_EGRESS}
NETKIT_ENDS = {"primary": AttachType.NETKIT_PRIMARY, "peer": AttachType.NETKIT_PEER}
QDISCS = ("clsact", "ingress")
PROTOCOLS = {"all": ETH_P_ALL, "ip": EtherType.IP, "ipv6": EtherType.IPV6, "arp": EtherType.ARP}
# tc-actions(8): what an action's program stands for with its result -1
CONTROLS = {
    "pass": TcAct.OK, "ok": TcAct.OK, "reclassify": TcAct.RECLASSIFY, "drop": TcAct.SHOT, "shot": TcAct.SHOT,
    "pipe": TcAct.PIPE, "continue": TcAct.UNSPEC,
}  # fmt: skip
# net/sched/sch_api.c, rtnetlink's extack texts
NO_QDISC = "Cannot find specified qdisc on specified device"
EXCLUSIVE = "Exclusivity flag on, cannot modify"
NO_PARENT = "Parent Qdisc doesn't exists"


class HostNet:
    """The network side of ``Host``."""

    name: str
    kernel: "Kernel"
    bpf: "Bpf"
    net: "Net"

    def device(self, name: str) -> "NetDevice":
        """Return a device by its name; KernelError ENODEV."""
        raise NotImplementedError

    def prog(self, program: "Program | Prog | int") -> Prog:
        """Return the loaded program behind an object's program or a descriptor; KernelError EBADF."""
        raise NotImplementedError

    def link_set_xdp(
        self,
        device: str,
        program: "Program | Prog | int | None" = None,
        *,
        flags: int = 0,
        expected: "Program | Prog | int | EllipsisType | None" = ...,
    ) -> None:
        """Set a device's XDP program by netlink, or remove it (``ip link set dev D xdp``, ``IFLA_XDP``).

        ``flags`` are XDP_FLAGS_*; with XDP_FLAGS_REPLACE the program that is there must be ``expected``, None for none.
        """
        state = self.device(device).xdp
        if flags & XDP_FLAGS_REPLACE and isinstance(expected, EllipsisType):
            raise KernelError("setlink", Errno.EINVAL, "XDP_FLAGS_REPLACE without an expected program")
        old = None if expected is None or isinstance(expected, EllipsisType) else self.prog(expected)
        state.dev_change_xdp_fd(self.prog(program) if program is not None else None, flags=flags, expected=old)

    def attach_tcx(
        self,
        program: "Program | Prog | int",
        device: str,
        direction: str = "ingress",
        *,
        before: AttachedLink | None = None,
        after: AttachedLink | None = None,
        first: bool = False,
        revision: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to a device by tcx, behind all others unless it is told where.

        ``before`` and ``after`` name a link on the same device and direction, ``first`` the head of the list;
        ``revision`` is the one that is expected (0: any).
        """
        kind = DIRECTIONS.get(direction)
        if kind is None:
            raise InputError("", f"direction '{direction}' is not known{did_you_mean(direction, DIRECTIONS)}")
        flags, id_or_fd = _relative(before, after)
        if first:
            flags |= BPF_F_BEFORE
        link = tcx_link_attach(
            self.kernel, self.device(device).tcx, self.prog(program), kind,
            flags=flags, id_or_fd=id_or_fd, revision=revision, label=label,
        )  # fmt: skip
        return AttachedLink(self, link)

    def attach_netkit(
        self,
        program: "Program | Prog | int",
        device: str,
        end: str = "",
        *,
        before: AttachedLink | None = None,
        after: AttachedLink | None = None,
        first: bool = False,
        revision: int = 0,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to what an end of a netkit pair sends, ``primary`` or ``peer``; ``device`` is the primary.

        Without ``end`` it is the one that the program was loaded for. The rest is as for ``attach_tcx``.
        """
        prog = self.prog(program)
        if end and end not in NETKIT_ENDS:
            raise InputError("", f"end '{end}' is not known{did_you_mean(end, NETKIT_ENDS)}")
        loaded_for = prog.expected_attach_type == AttachType.NETKIT_PEER
        kind = NETKIT_ENDS[end] if end else NETKIT_ENDS["peer" if loaded_for else "primary"]
        flags, id_or_fd = _relative(before, after)
        if first:
            flags |= BPF_F_BEFORE
        state = netkit_state("link_create", self.device(device), kind)
        link = tcx_link_attach(
            self.kernel, state, prog, kind, flags=flags, id_or_fd=id_or_fd, revision=revision, label=label
        )
        return AttachedLink(self, link)

    def attach_tc(
        self,
        program: "Program | Prog | int",
        device: str,
        direction: str = "ingress",
        *,
        pref: int = 0,
        handle: int = 0,
        replace: bool = False,
        label: str = "",
    ) -> AttachedFilter:
        """Attach a program as libbpf's bpf_tc_attach does: a filter in direct-action mode for all protocols.

        A clsact qdisc is made when the device has none (bpf_tc_hook_create).
        """
        if self.device(device).qdisc is None:
            self.tc_qdisc_add(device, "clsact")
        add = self.tc_filter_replace if replace else self.tc_filter_add
        return add(device, direction, program, pref=pref, handle=handle, label=label)

    def cgroup(self, path: str) -> Cgroup:
        """Return a control group by its path in the hierarchy, made (with those above it) when there is none."""
        return self.kernel.cgroups.mkdir(path)

    def attach_cgroup(
        self,
        program: "Program | Prog | int",
        path: str,
        attach_type: str = "",
        *,
        before: AttachedLink | None = None,
        after: AttachedLink | None = None,
        preorder: bool = False,
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to a control group by a link (BPF_F_ALLOW_MULTI).

        ``attach_type`` is the kernel's name without BPF_CGROUP_ in lower case (``inet_egress``, ``inet4_connect``), by
        default what the program was loaded for. ``before`` and ``after`` name a link on the same cgroup.
        """
        prog = self.prog(program)
        kind = prog.expected_attach_type
        if attach_type:
            words = {each.name.lower().removeprefix("cgroup_"): each for each in CGROUP_ATTACH_TYPES}
            if attach_type not in words:
                raise InputError("", f"attach type '{attach_type}' is not known{did_you_mean(attach_type, words)}")
            kind = words[attach_type]
        check_attach_type("link_create", prog, kind)
        flags, id_or_fd = _relative(before, after)
        link = cgroup_link_attach(
            self.kernel, self.cgroup(path), prog, kind,
            flags=flags | (BPF_F_PREORDER if preorder else 0), id_or_fd=id_or_fd, label=label,
        )  # fmt: skip
        return AttachedLink(self, link)

    def netns_fd(self) -> int:
        """Return a descriptor of the host's network namespace (open("/proc/self/ns/net"))."""
        netns = self.net.hooks[0]
        netns.get()
        return self.kernel.fds.install(netns)

    def attach_netns(self, program: "Program | Prog | int", *, label: str = "") -> AttachedLink:
        """Attach a flow dissector or a program of sk_lookup to the host's network namespace by a link."""
        prog = self.prog(program)
        kinds = {ProgType.FLOW_DISSECTOR: AttachType.FLOW_DISSECTOR, ProgType.SK_LOOKUP: AttachType.SK_LOOKUP}
        kind = kinds.get(prog.type)
        if kind is None:
            raise KernelError("link_create", Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        return AttachedLink(self, netns_bpf_link_create(self.kernel, self.net.hooks[0], prog, kind, label))

    def attach_netfilter(
        self,
        program: "Program | Prog | int",
        hook: str = "",
        *,
        priority: int = 0,
        pf: str = "ipv4",
        label: str = "",
    ) -> AttachedLink:
        """Attach a program to a hook of netfilter: PRE_ROUTING, LOCAL_IN, FORWARD, LOCAL_OUT or POST_ROUTING.

        The lowest ``priority`` runs first; a hook has one program of each.
        """
        prog, word = self.prog(program), hook.upper().removeprefix("NF_INET_")
        if word not in NF_HOOKS:
            raise InputError("", f"hook '{hook}' of netfilter is not known{did_you_mean(word, NF_HOOKS)}")
        if prog.type != ProgType.NETFILTER:
            raise KernelError("link_create", Errno.EINVAL, f"program '{prog.name}' is of type {prog.type.lower}")
        family = NFPROTO_IPV6 if pf == "ipv6" else NFPROTO_IPV4
        link = self.net.hooks[1].attach(prog, family, NF_HOOKS[word], priority, 0, label)
        return AttachedLink(self, link)

    def tc_qdisc_add(self, device: str, kind: str = "clsact") -> TcQdisc:
        """Add a clsact or ingress qdisc (``tc qdisc add dev D clsact``); a device has one of them: EEXIST."""
        if kind not in QDISCS:
            raise InputError("", f"qdisc '{kind}' is not modelled{did_you_mean(kind, QDISCS)}", "clsact or ingress")
        dev = self.device(device)
        if dev.qdisc is not None:
            raise KernelError("tc qdisc add", Errno.EEXIST, EXCLUSIVE)
        qdisc = dev.qdisc = TcQdisc(self.kernel, dev, kind)
        dev.tcx.set_miniq(AttachType.TCX_INGRESS, qdisc.ingress)
        if kind == "clsact":
            dev.tcx.set_miniq(AttachType.TCX_EGRESS, qdisc.egress)
        return qdisc

    def tc_qdisc_del(self, device: str, kind: str = "clsact") -> None:
        """Delete the qdisc and all of its filters; ENOENT without one, EINVAL for another kind."""
        dev = self.device(device)
        if dev.qdisc is None:
            if dev.tcx.ingress_queue:
                raise KernelError("tc qdisc del", Errno.EINVAL, "Invalid handle")
            raise KernelError("tc qdisc del", Errno.ENOENT, NO_QDISC)
        if dev.qdisc.kind != kind:
            raise KernelError("tc qdisc del", Errno.EINVAL, "Invalid qdisc name: must match existing qdisc")
        dev.qdisc.destroy()
        for attach_type in DIRECTIONS.values():
            dev.tcx.set_miniq(attach_type, None)
        dev.qdisc = None

    def tc_filter_add(
        self,
        device: str,
        direction: str,
        program: "Program | Prog | int",
        *,
        pref: int = 0,
        handle: int = 0,
        protocol: str = "all",
        chain: int = 0,
        direct_action: bool = True,
        classid: int = 0,
        actions: "Sequence[Program | Prog | int | tuple[Program | Prog | int, str]]" = (),
        label: str = "",
    ) -> AttachedFilter:
        """Add a cls_bpf filter (``tc filter add dev D ingress bpf da object ...``).

        ``actions`` are programs of type sched_act, each perhaps with what its result -1 stands for (``"pipe"`` by
        default); they run when a filter without ``direct_action`` matches.
        """
        new = self._filter(program, pref, handle, protocol, chain, direct_action, classid, actions, label)
        return self._tc_filter(device, direction, new, replace=False)

    def tc_filter_replace(
        self,
        device: str,
        direction: str,
        program: "Program | Prog | int",
        *,
        pref: int = 0,
        handle: int = 0,
        protocol: str = "all",
        chain: int = 0,
        direct_action: bool = True,
        classid: int = 0,
        actions: "Sequence[Program | Prog | int | tuple[Program | Prog | int, str]]" = (),
        label: str = "",
    ) -> AttachedFilter:
        """Replace the filter of that priority and handle, or add it (``tc filter replace``)."""
        new = self._filter(program, pref, handle, protocol, chain, direct_action, classid, actions, label)
        return self._tc_filter(device, direction, new, replace=True)

    def tc_filter_del(
        self, device: str, direction: str, *, pref: int = 0, handle: int = 0, chain: int = 0, protocol: str = ""
    ) -> None:
        """Delete a filter, those of a priority, or all of a chain (``tc filter del``)."""
        number = _protocol(protocol) if protocol else 0
        check_request("tc filter del", pref=pref, handle=handle, chain=chain, protocol=number)
        self._qdisc(device, direction, "tc filter del").delete(
            direction, pref=pref, handle=handle, chain=chain, protocol=number
        )

    def tc_filter_show(self, device: str, direction: str) -> list[AttachedFilter]:
        """Return the filters of a direction in the order in which they are asked."""
        qdisc = self.device(device).qdisc
        if qdisc is None:
            return []
        return [AttachedFilter(self, qdisc, direction, each) for each in qdisc.side(direction).filters()]

    def _tc_filter(self, device: str, direction: str, new: ClsBpf, *, replace: bool) -> AttachedFilter:
        qdisc = self._qdisc(device, direction, "tc filter add")
        return AttachedFilter(self, qdisc, direction, qdisc.add(direction, new, replace=replace))

    def _qdisc(self, device: str, direction: str, op: str) -> TcQdisc:
        if direction not in DIRECTIONS:
            raise InputError("", f"direction '{direction}' is not known{did_you_mean(direction, DIRECTIONS)}")
        qdisc = self.device(device).qdisc
        if qdisc is None:
            raise KernelError(op, Errno.EINVAL, NO_PARENT)
        return qdisc

    def _filter(
        self,
        program: "Program | Prog | int",
        pref: int,
        handle: int,
        protocol: str,
        chain: int,
        direct_action: bool,
        classid: int,
        actions: "Sequence[Program | Prog | int | tuple[Program | Prog | int, str]]",
        label: str,
    ) -> ClsBpf:
        made = []
        for action in actions:
            what, default = action if isinstance(action, tuple) else (action, "pipe")
            if default not in CONTROLS:
                raise InputError("", f"action '{default}' is not known{did_you_mean(default, CONTROLS)}")
            made.append(ActBpf(self.prog(what), CONTROLS[default]))
        return ClsBpf(
            self.prog(program), handle, pref, _protocol(protocol), chain, direct_action, classid, tuple(made), label
        )


def _relative(before: AttachedLink | None, after: AttachedLink | None) -> tuple[int, int]:
    # flags and id of a position relative to a link
    if before is not None and after is not None:
        raise InputError("", "a link is before or after another one, not both")
    if before is not None:
        return BPF_F_BEFORE | BPF_F_LINK | BPF_F_ID, before.id
    return (BPF_F_AFTER | BPF_F_LINK | BPF_F_ID, after.id) if after is not None else (0, 0)


def _protocol(name: str) -> int:
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    try:
        return int(name, 0)
    except ValueError:
        hint = did_you_mean(name, PROTOCOLS)
        raise InputError("", f"protocol '{name}' is not known{hint}", "a name such as 'ip', or a number") from None
