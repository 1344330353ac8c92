"""clsact and ingress qdiscs with cls_bpf filters and act_bpf actions (net/sched/cls_bpf.c and its like).

Filters of a direction are in chains, in a chain by priority (``pref``), under one priority the newest handle first.
``tcf_classify`` walks them as v6.18 does and leaves running a program to its caller. Refusals carry the kernel's extack
text. Left out: classic BPF, shared blocks, other classifiers and actions, hardware offload.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import ProgType
from hooks.link import HookKernel, HookStats, note

__all__ = [
    "ETH_P_ALL",
    "ActBpf",
    "ClsBpf",
    "MiniQdisc",
    "TcAct",
    "TcQdisc",
    "Verdict",
    "check_request",
    "tc_act_name",
    "tcf_classify",
]

ETH_P_ALL = 3  # include/uapi/linux/if_ether.h
MAX_RECLASSIFY_LOOP = 16  # net/sched/cls_api.c
AUTO_PRIOS, FIRST_AUTO_PRIO = 0x8000, 0xC000  # tc_new_tfilter(), tcf_auto_prio()
TC_H_MAJ_MASK, TC_H_MIN_MASK = 0xFFFF0000, 0xFFFF  # include/uapi/linux/pkt_sched.h
MAX_CHAIN = (1 << 28) - 1  # TC_ACT_EXT_VAL_MASK, include/uapi/linux/pkt_cls.h
U32_HANDLES = 0x7FFF_FFFF
MISMATCH = "Protocol mismatch for filter with specified priority"
NEED_CREATE = "Need both RTM_NEWTFILTER and NLM_F_CREATE to create a new filter"


class TcAct(IntEnum):
    """``TC_ACT_*``, include/uapi/linux/pkt_cls.h; the first six of tcx carry the same numbers."""

    UNSPEC = -1
    OK = 0
    RECLASSIFY = 1
    SHOT = 2
    PIPE = 3
    STOLEN = 4
    QUEUED = 5
    REPEAT = 6
    REDIRECT = 7
    TRAP = 8


# cls_bpf_exec_opcode(): what a filter in direct-action mode may say; all else is UNSPEC, the next filter
DIRECT = frozenset({TcAct.OK, TcAct.SHOT, TcAct.STOLEN, TcAct.TRAP, TcAct.REDIRECT, TcAct.UNSPEC})
# tcf_bpf_act(): what the program of an action may say; UNSPEC is the action's default
ACTION = frozenset({TcAct.PIPE, TcAct.RECLASSIFY, TcAct.OK, TcAct.REDIRECT, TcAct.SHOT})


def tc_act_name(code: int) -> str:
    """Return the name of a code, for instance ``TC_ACT_SHOT``, or the number."""
    return f"TC_ACT_{TcAct(code).name}" if code in set(TcAct) else str(code)


@dataclass(eq=False, slots=True)
class ActBpf:
    """An action of a program of type sched_act; ``default`` is what its result -1 stands for (``action pipe``)."""

    prog: Prog
    default: int = TcAct.PIPE
    index: int = 0
    label: str = ""
    stats: HookStats = field(default_factory=HookStats)


@dataclass(eq=False, slots=True)
class ClsBpf:
    """A filter (``struct cls_bpf_prog``). Without ``direct_action`` the program's result is a class id."""

    prog: Prog
    handle: int
    pref: int
    protocol: int = ETH_P_ALL
    chain: int = 0
    direct_action: bool = True
    classid: int = 0
    actions: tuple[ActBpf, ...] = ()
    label: str = ""
    stats: HookStats = field(default_factory=HookStats)


class _Proto:
    # struct tcf_proto: the filters of one priority, which share a protocol
    __slots__ = ("filters", "handles", "pref", "protocol")

    def __init__(self, pref: int, protocol: int) -> None:
        self.pref, self.protocol = pref, protocol
        self.filters: list[ClsBpf] = []
        self.handles = 0


class MiniQdisc:
    """The filters of one direction (``struct mini_Qdisc`` with its block), and what its packets came to."""

    __slots__ = ("bytes", "chains", "drops", "packets")

    def __init__(self) -> None:
        self.chains: dict[int, list[_Proto]] = {}
        self.packets = self.bytes = self.drops = 0

    def filters(self) -> list[ClsBpf]:
        """Return all filters, in the order in which they are asked, chain by chain."""
        return [each for index in sorted(self.chains) for proto in self.chains[index] for each in proto.filters]


class TcDevice(Protocol):
    """What a qdisc needs of its device."""

    name: str


class TcQdisc:
    """A clsact qdisc, or an ingress qdisc, which has no filters for what leaves; ``kind`` is its name."""

    def __init__(self, kernel: HookKernel, device: TcDevice, kind: str) -> None:
        self.kernel = kernel
        self.device = device
        self.kind = kind
        self.ingress = MiniQdisc()
        self.egress = MiniQdisc() if kind == "clsact" else self.ingress

    def side(self, direction: str) -> MiniQdisc:
        """Return the filters of ``ingress`` or ``egress``; an ingress qdisc takes both names for the same."""
        return self.ingress if direction == "ingress" else self.egress

    def add(self, direction: str, new: ClsBpf, *, create: bool = True, replace: bool = False) -> ClsBpf:
        """Add a filter or replace the one with its handle (tc_new_tfilter, cls_bpf_change) and return it.

        ``pref`` 0 asks for a free priority in front of all others, ``handle`` 0 for a free handle. ``create`` and
        ``replace`` are those of netlink: ``tc filter add`` has only the first, ``change`` only the second.
        """
        op = "tc filter"
        check_request(op, pref=new.pref, chain=new.chain, deletes=False, create=create)
        protos = self.side(direction).chains.get(new.chain, [])
        proto = self._proto(op, protos, new, create)
        old = next((each for each in proto.filters if new.handle and each.handle == new.handle), None)
        if old is None and not create:
            raise KernelError(op, Errno.ENOENT, NEED_CREATE)
        if old is not None and not replace:
            raise KernelError(op, Errno.EEXIST, "Filter already exists")
        _check_programs(op, new)
        new.pref, new.protocol = proto.pref, proto.protocol
        if not new.handle:
            new.handle = self._free_handle(proto)
        for prog in _programs(new):
            prog.get()
        if old is None:
            proto.filters.insert(0, new)
        else:
            proto.filters[proto.filters.index(old)] = new
            _release(old)
        if proto not in protos:
            protos.append(proto)
            protos.sort(key=lambda each: each.pref)
            self.side(direction).chains[new.chain] = protos
        self._note("update" if old is not None else "attach", direction, new)
        return new

    def delete(self, direction: str, *, pref: int = 0, handle: int = 0, chain: int = 0, protocol: int = 0) -> None:
        """Delete one filter, those of a priority (no ``handle``) or of a chain (no ``pref`` either): ENOENT."""
        op = "tc filter"
        check_request(op, pref=pref, handle=handle, chain=chain, protocol=protocol)
        protos = self.side(direction).chains.get(chain)
        if protos is None and pref:
            raise KernelError(op, Errno.ENOENT, "Cannot find specified filter chain")
        found = [each for each in protos or () if not pref or each.pref == pref]
        if pref and found and protocol and found[0].protocol != protocol:
            raise KernelError(op, Errno.EINVAL, MISMATCH)
        if pref and not found:
            raise KernelError(op, Errno.ENOENT, "Filter with specified priority/protocol not found")
        for proto in found:
            gone = [each for each in proto.filters if not handle or each.handle == handle]
            if not gone:
                raise KernelError(op, Errno.ENOENT, "Specified filter handle not found")
            proto.filters = [each for each in proto.filters if each not in gone]
            for each in gone:
                self._note("detach", direction, each)
                _release(each)
        kept = [each for each in protos or () if each.filters]
        if kept:
            self.side(direction).chains[chain] = kept
        else:
            self.side(direction).chains.pop(chain, None)

    def destroy(self) -> None:
        """Delete every filter, as when the qdisc goes."""
        for direction in ("ingress", "egress") if self.kind == "clsact" else ("ingress",):
            for chain in list(self.side(direction).chains):
                self.delete(direction, chain=chain)

    def _proto(self, op: str, protos: list[_Proto], new: ClsBpf, create: bool) -> _Proto:
        if not new.pref:
            # one below the first of the range that priorities are given from
            first = next((proto.pref for proto in protos if proto.pref >= AUTO_PRIOS), FIRST_AUTO_PRIO + 1)
            if first == AUTO_PRIOS:
                raise KernelError(op, Errno.ENOSPC, "Lowest ID from auto-alloc range already in use")
            _check_protocol(op, new)
            return _Proto(first - 1, new.protocol)
        for proto in protos:
            if proto.pref == new.pref:
                if new.protocol not in (proto.protocol, 0):
                    raise KernelError(op, Errno.EINVAL, MISMATCH)
                return proto
        _check_protocol(op, new)
        if not create:
            raise KernelError(op, Errno.ENOENT, NEED_CREATE)
        return _Proto(new.pref, new.protocol)

    def _free_handle(self, proto: _Proto) -> int:
        taken = {each.handle for each in proto.filters}
        return next(handle for handle in range(1, U32_HANDLES) if handle not in taken)

    def _note(self, what: str, direction: str, each: ClsBpf) -> None:
        side = self.side(direction)
        order = " ".join(str(one.prog.id) for one in side.filters())
        note(
            self.kernel,
            what,
            f"tc {direction} {what}: program '{each.prog.name}' (id {each.prog.id}), pref {each.pref},"
            f" handle {each.handle:#x}, device {self.device.name}",
            {
                "hook": f"tc_{direction}",
                "device": self.device.name,
                "prog_id": each.prog.id,
                "link": each.label,
                "pref": each.pref,
                "handle": each.handle,
                "order": order,
            },
        )


def check_request(
    op: str, *, pref: int, handle: int = 0, chain: int = 0, protocol: int = 0, deletes: bool = True, create: bool = True
) -> None:
    """Refuse what tc_new_tfilter() and tc_del_tfilter() refuse before they look for a qdisc."""
    if deletes and not pref and (protocol or handle):
        raise KernelError(op, Errno.ENOENT, "Cannot flush filters with protocol, handle or kind set")
    if not deletes and not pref and not create:
        raise KernelError(op, Errno.ENOENT, "Invalid filter command with priority of zero")
    if chain > MAX_CHAIN:
        raise KernelError(op, Errno.EINVAL, "Specified chain index exceeds upper limit")


def _check_protocol(op: str, new: ClsBpf) -> None:
    if not new.protocol:
        raise KernelError(op, Errno.EINVAL, "Filter kind and protocol must be specified")


def _check_programs(op: str, new: ClsBpf) -> None:
    if new.prog.type != ProgType.SCHED_CLS:
        raise KernelError(op, Errno.EINVAL, f"a {new.prog.type.lower} program as a filter")
    for action in new.actions:
        if action.prog.type != ProgType.SCHED_ACT:
            raise KernelError(op, Errno.EINVAL, f"a {action.prog.type.lower} program as an action")


def _release(each: ClsBpf) -> None:
    for prog in _programs(each):
        prog.put()


def _programs(each: ClsBpf) -> list[Prog]:
    return [each.prog, *(action.prog for action in each.actions)]


@dataclass(slots=True)
class Verdict:
    """What filters decided: ``code`` a TC_ACT number, ``classid`` where it was set, and why a loop was ended."""

    code: int
    classid: int = 0
    loop: bool = False


# (filter or action) -> (result of its program as a signed number, tc_classid of the packet after it)
RunFilter = Callable[[ClsBpf | ActBpf, int], tuple[int, int]]


def tcf_classify(miniq: MiniQdisc, protocol: Callable[[], int], run: RunFilter, chain: int = 0) -> Verdict:
    """Ask filters until one decides (``__tcf_classify``); UNSPEC when none does.

    ``protocol`` returns the packet's EtherType, which programs may change; ``run`` runs the program of a filter, the
    packet's ``tc_classid`` set before, or that of an action.
    """
    for _ in range(MAX_RECLASSIFY_LOOP + 1):
        verdict = _chain(miniq, protocol, run, chain)
        if verdict.code != TcAct.RECLASSIFY:
            return verdict
    return Verdict(TcAct.SHOT, loop=True)


def _chain(miniq: MiniQdisc, protocol: Callable[[], int], run: RunFilter, chain: int) -> Verdict:
    for proto in list(miniq.chains.get(chain, ())):
        if proto.protocol in (ETH_P_ALL, protocol()):
            verdict = _cls_bpf_classify(proto, run)
            if verdict.code >= 0:
                return verdict
    return Verdict(TcAct.UNSPEC)


def _cls_bpf_classify(proto: _Proto, run: RunFilter) -> Verdict:
    for each in list(proto.filters):
        result, tc_classid = run(each, each.classid & TC_H_MIN_MASK)
        if each.direct_action:
            if result in DIRECT and result != TcAct.UNSPEC:
                return Verdict(result, each.classid & TC_H_MAJ_MASK | tc_classid)
            continue
        if result == 0:
            continue
        classid = each.classid if result == TcAct.UNSPEC else result & 0xFFFF_FFFF
        code = _tcf_action_exec(each.actions, run)
        if code >= 0:
            return Verdict(code, classid)
    return Verdict(TcAct.UNSPEC)


def _tcf_action_exec(actions: tuple[ActBpf, ...], run: RunFilter) -> int:
    # without actions a filter that matches lets the packet go on; a PIPE behind the last one ends in it as well
    code: int = TcAct.OK
    for action in actions:
        result, _ = run(action, 0)
        code = action.default if result == TcAct.UNSPEC else result if result in ACTION else TcAct.UNSPEC
        if code != TcAct.PIPE:
            break
    return code
