"""Programs that trace or replace functions of other programs (the part of bpf_check_attach_target() about them, v6.18).

A program that replaces (type ext) is verified as if it were of its target's type. Left out: targets in modules, devices
that programs are bound to, exception callbacks.
"""

from collections.abc import Callable

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import FUNC_GLOBAL, Composite, Enum, Enum64, Func, FuncProto, Int, Kind, Ptr, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.progs.prog import Prog, Subprog
from ebpfsim.progs.types import CTX_TYPES
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.btf_walk import type_of_kind_name

__all__ = ["check_prog_target", "check_type_match", "kernel_context"]

# what bpf_types.h says the kernel hands to programs; XDP's xdp_md is the program's view of it
KERNEL_CONTEXTS: dict[ProgType, str] = {
    **dict.fromkeys(
        (
            ProgType.SOCKET_FILTER, ProgType.SCHED_CLS, ProgType.SCHED_ACT, ProgType.CGROUP_SKB, ProgType.LWT_IN,
            ProgType.LWT_OUT, ProgType.LWT_XMIT, ProgType.LWT_SEG6LOCAL, ProgType.SK_SKB,
        ),
        "sk_buff",
    ),
    ProgType.XDP: "xdp_buff",
    ProgType.CGROUP_SOCK: "sock",
    ProgType.CGROUP_SOCK_ADDR: "bpf_sock_addr_kern",
    ProgType.SOCK_OPS: "bpf_sock_ops_kern",
    ProgType.SK_MSG: "sk_msg",
    ProgType.FLOW_DISSECTOR: "bpf_flow_dissector",
    ProgType.KPROBE: "pt_regs",
    ProgType.PERF_EVENT: "bpf_perf_event_data_kern",
    ProgType.CGROUP_DEVICE: "bpf_cgroup_dev_ctx",
    ProgType.CGROUP_SYSCTL: "bpf_sysctl_kern",
    ProgType.CGROUP_SOCKOPT: "bpf_sockopt_kern",
    ProgType.SK_REUSEPORT: "sk_reuseport_kern",
    ProgType.SK_LOOKUP: "bpf_sk_lookup_kern",
    ProgType.NETFILTER: "bpf_nf_ctx",
}  # fmt: skip
TRAMPOLINES = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT)


def kernel_context(prog_type: ProgType, btf: Btf, ptr: Ptr) -> int | None:
    """Return the kernel's type behind a pointer to a program's context (``btf_translate_to_vmlinux``), else None."""
    struct = btf.resolved(ptr.type_id)
    names = CTX_TYPES.get(prog_type, ())
    kernel = KERNEL_CONTEXTS.get(prog_type)
    if not isinstance(struct, Composite) or kernel is None or struct.name not in (*names, kernel):
        return None
    return vmlinux().by_name(kernel, Kind.STRUCT)


def check_prog_target(
    target: Prog, btf_id: int, tname: str, is_ext: bool, changes_pkt_data: bool, might_sleep: bool
) -> Subprog | str:
    """Return the function of ``target`` that a type of its BTF is, or the log line that refuses it."""
    number, found = next(
        ((number, sub) for number, sub in enumerate(target.subprogs) if sub.type_id == btf_id), (-1, None)
    )
    if found is None:
        return f"Subprog {tname} doesn't exist\n"
    if is_ext:
        if found.unreliable:
            return "Cannot replace static functions\n"
        main_changes = target.changes_pkt_data if number == 0 else found.changes_pkt_data
        if changes_pkt_data and not main_changes:
            return "Extension program changes packet data, while original does not\n"
        if might_sleep and not found.might_sleep:
            return "Extension program may sleep, while original does not\n"
    return found


def check_type_match(name_btf: Btf, func1: Func, btf2: Btf, func2: Func) -> str:
    """Return why a function cannot take another one's place, or nothing (``btf_check_func_type_match``)."""
    for func in (func1, func2):
        if func.linkage != FUNC_GLOBAL:
            return f"{func.name}() is not a global function\n"
    proto1, proto2 = name_btf.type(func1.type_id), btf2.type(func2.type_id)
    assert isinstance(proto1, FuncProto)
    assert isinstance(proto2, FuncProto)
    fn1, fn2 = func1.name, func2.name
    nr1, nr2 = len(proto1.params), len(proto2.params)
    if nr1 != nr2:
        return f"{fn1}() has {nr1} args while {fn2}() has {nr2} args\n"
    t1, t2 = name_btf.resolved(proto1.type_id), btf2.resolved(proto2.type_id)
    if not _same_info(t1, t2):
        kind1, kind2 = type_of_kind_name(t1), type_of_kind_name(t2)
        return f"Return type {kind1} of {fn1}() doesn't match type {kind2} of {fn2}()\n"
    for number, (param1, param2) in enumerate(zip(proto1.params, proto2.params, strict=True)):
        t1, t2 = name_btf.resolved(param1.type_id), btf2.resolved(param2.type_id)
        text = _argument(name_btf.resolved, t1, btf2.resolved, t2, (number, fn1, fn2))
        if text:
            return text
    return ""


Resolve = Callable[[int], Type]


def _argument(resolve1: Resolve, t1: Type, resolve2: Resolve, t2: Type, place: tuple[int, str, str]) -> str:
    i, fn1, fn2 = place
    if not _same_info(t1, t2):
        return f"arg{i} in {fn1}() is {type_of_kind_name(t1)} while {fn2}() has {type_of_kind_name(t2)}\n"
    size1, size2 = getattr(t1, "size", None), getattr(t2, "size", None)
    if size1 != size2:
        return f"arg{i} in {fn1}() has size {size1} while {fn2}() has {size2}\n"
    if isinstance(t1, Int | Enum | Enum64):
        return ""
    if not isinstance(t1, Ptr) or not isinstance(t2, Ptr):
        return f"arg{i} in {fn1}() has unrecognized type\n"
    struct1, struct2 = resolve1(t1.type_id), resolve2(t2.type_id)
    for struct, name in ((struct1, fn1), (struct2, fn2)):
        if struct.kind not in (Kind.STRUCT, Kind.UNION):
            return f"arg{i} in {name}() is not a pointer to context\n"
    if struct1.name != struct2.name:
        return f"arg{i} {fn1}(struct {struct1.name} *) doesn't match {fn2}(struct {struct2.name} *)\n"
    return ""


def _same_info(t1: Type, t2: Type) -> bool:
    # the word ``info`` of two types: kind, number of members, kind flag
    def info(type_: Type) -> tuple[object, ...]:
        members = getattr(type_, "members", getattr(type_, "values", ()))
        return type_.kind, len(members), getattr(type_, "kflag", False)

    return isinstance(t1, Void) == isinstance(t2, Void) and info(t1) == info(t2)
