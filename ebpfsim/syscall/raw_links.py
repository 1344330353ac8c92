"""The union of BPF_LINK_CREATE as bytes: what each attach type has in it (``link_create`` of union bpf_attr, v6.18).

Types that have nothing there do not look.
"""

from collections.abc import Mapping
from struct import unpack
from typing import Any

from ebpfsim.errnos import Errno
from ebpfsim.progs.prog import Prog
from ebpfsim.syscall.raw_call import Call
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.bpf_attr import LINK_CREATE_OPTS, Layout

__all__ = ["link_create_opts"]

KSYM_NAME_LEN, PATH_MAX = 512, 4096
MAX_MULTI_CNT = 1 << 20  # MAX_KPROBE_MULTI_CNT, MAX_UPROBE_MULTI_CNT
TRACED = Layout(("target_btf_id", "I"), ("cookie", "Q"))
KPROBE_MULTI = Layout(("flags", "I"), ("cnt", "I"), ("syms", "Q"), ("addrs", "Q"), ("cookies", "Q"))
UPROBE_MULTI = Layout(
    ("path", "Q"), ("offsets", "Q"), ("ref_ctr_offsets", "Q"), ("cookies", "Q"), ("cnt", "I"), ("flags", "I"),
    ("pid", "I"),
)  # fmt: skip
PLAIN: Mapping[A, Layout] = {
    **dict.fromkeys((A.TRACE_FENTRY, A.TRACE_FEXIT, A.MODIFY_RETURN, A.LSM_MAC), TRACED),
    A.TRACE_RAW_TP: TRACED,
    A.PERF_EVENT: Layout(("bpf_cookie", "Q")),
    A.NETFILTER: Layout(("pf", "I"), ("hooknum", "I"), ("priority", "i"), ("netfilter_flags", "I")),
}


def link_create_opts(call: Call, data: bytes) -> dict[str, Any]:
    """Return what the union holds for an attach type, by the names that hooks know; 0 is left out."""
    kind = call.number("attach_type")
    prog = call.bpf.kernel.fds.lookup(call.number("prog_fd"))
    if not isinstance(prog, Prog):
        # the descriptor is refused, or one of a map
        return {}
    if kind in (A.TRACE_KPROBE_MULTI, A.TRACE_KPROBE_SESSION):
        return _kprobe_multi(call, _numbers(KPROBE_MULTI, data))
    if kind in (A.TRACE_UPROBE_MULTI, A.TRACE_UPROBE_SESSION):
        return _uprobe_multi(call, _numbers(UPROBE_MULTI, data))
    layout = TRACED if prog.type == ProgType.EXT else PLAIN[A(kind)] if kind in PLAIN else LINK_CREATE_OPTS
    return {name: value for name, value in _numbers(layout, data).items() if value}


def _numbers(layout: Layout, data: bytes) -> dict[str, int]:
    return {name: value for name, value in layout.unpack(data).items() if isinstance(value, int)}


def _kprobe_multi(call: Call, given: dict[str, int]) -> dict[str, Any]:
    # bpf_kprobe_multi_link_attach(): either names or addresses
    count = given["cnt"]
    opts: dict[str, Any] = {"kprobe_multi_flags": given["flags"]}
    if bool(given["syms"]) == bool(given["addrs"]) or not count:
        raise call.fail(Errno.EINVAL, f"{count} functions by names and addresses, or by nothing")
    if count > MAX_MULTI_CNT:
        raise call.fail(Errno.E2BIG, f"{count} functions")
    for name in ("addrs", "cookies"):
        if given[name]:
            opts[name] = _longs(call, given[name], count)
    if given["syms"]:
        places = _longs(call, given["syms"], count)
        opts["syms"] = [call.user.read_string(place, KSYM_NAME_LEN).decode("utf-8", "replace") for place in places]
    return opts


def _uprobe_multi(call: Call, given: dict[str, int]) -> dict[str, Any]:
    # bpf_uprobe_multi_link_attach()
    count = given["cnt"]
    if not given["path"] or not given["offsets"] or not count:
        raise call.fail(Errno.EINVAL, "no path, no offsets, or none of them")
    if count > MAX_MULTI_CNT:
        raise call.fail(Errno.E2BIG, f"{count} places")
    opts: dict[str, Any] = {"uprobe_multi_flags": given["flags"], "pid": given["pid"]}
    opts["path"] = call.user.read_string(given["path"], PATH_MAX)
    for name in ("offsets", "cookies", "ref_ctr_offsets"):
        if given[name]:
            opts[name] = _longs(call, given[name], count)
    return opts


def _longs(call: Call, address: int, count: int) -> list[int]:
    return list(unpack(f"<{count}Q", call.user.read(address, 8 * count)))
