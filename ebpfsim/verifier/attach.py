"""What tracing and struct_ops programs are made for (check_attach_btf_id(), kernel/bpf/verifier.c, v6.18).

``AttachTarget`` is what later phases ask: the function's prototype, its name, and what is known of its arguments.
"""

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Array, Composite, Enum, Func, FuncProto, Int, Kind, Ptr, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.progs.regtypes import MEM_RDONLY, PTR_MAYBE_NULL, PTR_TO_BTF_ID, PTR_TO_BUF, PTR_TRUSTED
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.attach_prog import TRAMPOLINES, check_prog_target, check_type_match
from ebpfsim.verifier.btf_walk import type_of_kind_name
from ebpfsim.verifier.env import Env
from ebpfsim.verifier.lsm import check_sleepable_hook, lsm_verify_prog

__all__ = ["AttachTarget", "check_attach_btf_id"]

MAX_BPF_FUNC_ARGS = 12
TRACEPOINT_PREFIX, ITER_PREFIX = "btf_trace_", "bpf_iter_"
BTF_OR_NULL = PTR_TO_BTF_ID | PTR_MAYBE_NULL
TRUSTED_OR_NULL = BTF_OR_NULL | PTR_TRUSTED
KEY_OR_NULL, VALUE_OR_NULL = PTR_TO_BUF | PTR_MAYBE_NULL | MEM_RDONLY, PTR_TO_BUF | PTR_MAYBE_NULL

# targets of iterators: what the arguments behind the first are, unless their type says it all (bpf_iter_reg)
ITER_TARGETS: dict[str, dict[int, tuple[int, str]]] = {
    "bpf_link": {8: (BTF_OR_NULL, "bpf_link")},
    "bpf_map": {8: (TRUSTED_OR_NULL, "bpf_map")},
    "bpf_map_elem": {16: (KEY_OR_NULL, ""), 24: (VALUE_OR_NULL, "")},
    "bpf_prog": {8: (BTF_OR_NULL, "bpf_prog")},
    "bpf_sk_storage_map": {16: (BTF_OR_NULL, "sock"), 24: (VALUE_OR_NULL, "")},
    "cgroup": {8: (TRUSTED_OR_NULL, "cgroup")},
    "dmabuf": {8: (BTF_OR_NULL, "dma_buf")},
    "ipv6_route": {8: (BTF_OR_NULL, "fib6_info")},
    "kmem_cache": {8: (TRUSTED_OR_NULL, "kmem_cache")},
    "ksym": {8: (BTF_OR_NULL, "kallsym_iter")},
    "netlink": {8: (BTF_OR_NULL, "netlink_sock")},
    "sockmap": {16: (KEY_OR_NULL, ""), 24: (BTF_OR_NULL, "sock")},
    "task": {8: (TRUSTED_OR_NULL, "task_struct")},
    "task_file": {8: (BTF_OR_NULL, "task_struct"), 24: (BTF_OR_NULL, "file")},
    "task_vma": {8: (BTF_OR_NULL, "task_struct"), 16: (BTF_OR_NULL, "vm_area_struct")},
    "tcp": {8: (TRUSTED_OR_NULL, "sock_common")},
    "udp": {8: (TRUSTED_OR_NULL, "udp_sock")},
    "unix": {8: (BTF_OR_NULL, "unix_sock")},
}

# functions that the tracer itself needs (btf_id_deny), and those that never return (noreturn_deny)
DENIED = frozenset(
    (
        "migrate_disable", "migrate_enable", "rcu_read_unlock_strict", "preempt_count_add", "preempt_count_sub",
        "__rcu_read_lock", "__rcu_read_unlock",
    )
)  # fmt: skip
NO_RETURN = frozenset(
    (
        "__x64_sys_exit", "__x64_sys_exit_group", "__ia32_sys_exit", "__ia32_sys_exit_group", "do_exit",
        "do_group_exit", "kthread_complete_and_exit", "make_task_dead",
    )
)  # fmt: skip
# functions whose result may be replaced, and whether programs may sleep there (btf_kfunc_is_modify_return); the kernel
# is built without CONFIG_FUNCTION_ERROR_INJECTION, which would add system calls and others
MODIFIABLE = {
    "bpf_modify_return_test": False,
    "bpf_modify_return_test2": False,
    "bpf_modify_return_test_tp": False,
    "bpf_fentry_test1": True,
    "update_socket_protocol": False,
}
# structures of functions that programs may implement, and members that are not for programs
STRUCT_OPS: dict[str, tuple[str, ...]] = {"tcp_congestion_ops": ("get_info",), "bpf_dummy_ops": ()}
_SLEEPABLE = (AttachType.TRACE_FENTRY, AttachType.TRACE_FEXIT, AttachType.MODIFY_RETURN, AttachType.TRACE_ITER)


def check_attach_btf_id(env: Env) -> None:
    """Find what the program is to be attached to; refuse what cannot be (``check_attach_btf_id``)."""
    prog_type = env.prog_type
    if prog_type == ProgType.SYSCALL:
        if not env.sleepable:
            raise env.fail(Errno.EINVAL, "Syscall programs can only be sleepable\n")
        return
    if env.sleepable and not _can_be_sleepable(env):
        text = "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n"
        raise env.fail(Errno.EINVAL, text)
    if prog_type == ProgType.STRUCT_OPS:
        env.target = _struct_ops(env)
    elif env.extension or (prog_type == ProgType.TRACING and env.attr.attach_prog is not None):
        env.target = _function_of_program(env)
    elif prog_type == ProgType.TRACING:
        env.target = _tracing(env)
    elif prog_type == ProgType.LSM:
        env.target = _security_hook(env)


def _can_be_sleepable(env: Env) -> bool:
    # can_be_sleepable
    if env.prog_type == ProgType.TRACING:
        return env.expected_attach(*_SLEEPABLE)
    if env.prog_type == ProgType.LSM:
        return not env.expected_attach(AttachType.LSM_CGROUP)
    return env.prog_type in (ProgType.KPROBE, ProgType.STRUCT_OPS)


def _security_hook(env: Env) -> AttachTarget:
    # bpf_check_attach_target and bpf_lsm_verify_prog
    btf, id_, type_ = _kernel_type(env)
    if not env.expected_attach(AttachType.LSM_MAC, AttachType.LSM_CGROUP):
        raise env.fail(Errno.EINVAL, "")
    name, proto = _function(env, btf, id_, type_)
    if env.sleepable:
        check_sleepable_hook(env, name)
    lsm_verify_prog(env, name, id_)
    return AttachTarget(btf, id_, name, proto)


def _function_of_program(env: Env) -> AttachTarget:
    # bpf_check_attach_target for a function of another program, in its order
    target, btf_id = env.attr.attach_prog, env.attr.attach_btf_id
    if not btf_id:
        raise env.fail(Errno.EINVAL, "Tracing programs must provide btf_id\n")
    if target is None:
        _kernel_type(env)
        raise env.fail(Errno.EINVAL, "Cannot replace kernel functions\n")
    btf = target.btf
    if btf is None:
        text = "FENTRY/FEXIT program can only be attached to another program annotated with BTF\n"
        raise env.fail(Errno.EINVAL, text)
    if not 0 < btf_id < btf.nr_types:
        raise env.fail(Errno.EINVAL, f"attach_btf_id {btf_id} is invalid\n")
    type_ = btf.type(btf_id)
    found = check_prog_target(
        target, btf_id, type_.name, env.extension, env.changes_pkt_data, env.subprogs[0].might_sleep
    )
    if isinstance(found, str):
        raise env.fail(Errno.EINVAL, found)
    _check_nesting(env, target)
    if env.expected_attach(AttachType.TRACE_RAW_TP) and not env.extension:
        raise env.fail(Errno.EINVAL, "Only FENTRY/FEXIT progs are attachable to another BPF prog\n")
    if not env.extension and not env.expected_attach(*TRAMPOLINES, AttachType.MODIFY_RETURN):
        raise env.fail(Errno.EINVAL, "")
    if not isinstance(type_, Func):
        raise env.fail(Errno.EINVAL, f"attach_btf_id {btf_id} is not a function\n")
    if env.extension:
        _check_replacement(env, btf, type_)
    proto = btf.type(type_.type_id)
    assert isinstance(proto, FuncProto)
    if not found.unreliable:
        _distill(env, btf, proto, type_.name)
    if not env.extension:
        if env.sleepable:
            raise env.fail(Errno.EINVAL, f"{type_.name} is not sleepable\n")
        if env.expected_attach(AttachType.MODIFY_RETURN):
            raise env.fail(Errno.EINVAL, "can't modify return codes of BPF programs\n")
    return AttachTarget(btf, btf_id, type_.name, None if found.unreliable else proto, prog=target, subprog=found)


def _check_nesting(env: Env, target: Prog) -> None:
    # who may be attached to whom: no chain may come back to where it began
    if env.prog_type == ProgType.TRACING and not env.extension:
        if target.attach_tracing_prog:
            raise env.fail(Errno.EINVAL, "Cannot nest tracing program attach more than once\n")
    elif target.type == ProgType.EXT:
        raise env.fail(Errno.EINVAL, "Cannot recursively attach\n")
    if env.extension and target.type == ProgType.TRACING and target.expected_attach_type in TRAMPOLINES:
        raise env.fail(Errno.EINVAL, "Cannot extend fentry/fexit\n")


def _check_replacement(env: Env, btf: Btf, func: Func) -> None:
    # btf_check_type_match
    if not env.attr.func_info or env.attr.btf is None:
        raise env.fail(Errno.EINVAL, "Program extension requires BTF\n")
    own = env.attr.btf.type(env.subprogs[0].type_id)
    assert isinstance(own, Func)
    text = check_type_match(env.attr.btf, own, btf, func)
    if text:
        raise env.fail(Errno.EINVAL, text)


def _kernel_type(env: Env) -> tuple[Btf, int, Type]:
    id_, btf = env.attr.attach_btf_id, vmlinux()
    if not id_:
        raise env.fail(Errno.EINVAL, "Tracing programs must provide btf_id\n")
    if not 0 < id_ < btf.nr_types:
        raise env.fail(Errno.EINVAL, f"attach_btf_id {id_} is invalid\n")
    return btf, id_, btf.type(id_)


def _function(env: Env, btf: Btf, id_: int, type_: Type) -> tuple[str, FuncProto]:
    if not isinstance(type_, Func):
        raise env.fail(Errno.EINVAL, f"attach_btf_id {id_} is not a function\n")
    proto = btf.type(type_.type_id)
    if not isinstance(proto, FuncProto):
        raise env.fail(Errno.EINVAL, "")
    _distill(env, btf, proto, type_.name)
    return type_.name, proto


def _tracing(env: Env) -> AttachTarget:
    # bpf_check_attach_target
    btf, id_, type_ = _kernel_type(env)
    if env.expected_attach(AttachType.TRACE_RAW_TP):
        return _raw_tracepoint(env, btf, id_, type_)
    attach = AttachType(env.attr.expected_attach_type)
    if attach not in _SLEEPABLE:
        raise env.fail(Errno.EINVAL, "")
    name, proto = _function(env, btf, id_, type_)
    if attach == AttachType.TRACE_ITER:
        return _iterator(env, btf, id_, name, proto)
    _check_function(env, attach, name)
    return AttachTarget(btf, id_, name, proto)


def _raw_tracepoint(env: Env, btf: Btf, id_: int, type_: Type) -> AttachTarget:
    if type_.kind != Kind.TYPEDEF:
        raise env.fail(Errno.EINVAL, f"attach_btf_id {id_} is not a typedef\n")
    if not type_.name.startswith(TRACEPOINT_PREFIX):
        text = f"attach_btf_id {id_} points to wrong type name {type_.name}\n"
        raise env.fail(Errno.EINVAL, text)
    ptr = btf.resolved(id_)
    proto = btf.type(ptr.type_id) if isinstance(ptr, Ptr) else ptr
    if not isinstance(proto, FuncProto):
        raise env.fail(Errno.EINVAL, "")
    return AttachTarget(btf, id_, type_.name.removeprefix(TRACEPOINT_PREFIX), proto, trace=True)


def _iterator(env: Env, btf: Btf, id_: int, name: str, proto: FuncProto) -> AttachTarget:
    # bpf_iter_prog_supported
    info = ITER_TARGETS.get(name.removeprefix(ITER_PREFIX)) if name.startswith(ITER_PREFIX) else None
    if info is None:
        raise env.fail(Errno.EINVAL, "")
    return AttachTarget(btf, id_, name, proto, arg_info=info)


def _check_function(env: Env, attach: AttachType, name: str) -> None:
    # the function may be called from where programs cannot run, or its result may not be replaced
    modifies = attach == AttachType.MODIFY_RETURN
    if env.sleepable and not MODIFIABLE.get(name):
        raise env.fail(Errno.EINVAL, f"{name} is not sleepable\n")
    if modifies and not env.sleepable and name not in MODIFIABLE and not name.startswith("security_"):
        raise env.fail(Errno.EINVAL, f"{name}() is not modifiable\n")
    if name in DENIED:
        raise env.fail(Errno.EINVAL, f"Attaching tracing programs to function '{name}' is rejected.\n")
    if name in NO_RETURN and attach != AttachType.TRACE_FENTRY:
        text = f"Attaching fexit/fmod_ret to __noreturn function '{name}' is rejected.\n"
        raise env.fail(Errno.EINVAL, text)


def _type_size(btf: Btf, type_id: int) -> tuple[int, Type]:
    # __get_type_size; -1 for what cannot be passed
    type_ = btf.resolved(type_id)
    if isinstance(type_, Void):
        return 0, type_
    if isinstance(type_, Ptr):
        return 8, type_
    return (type_.size if isinstance(type_, Int | Enum | Composite) else -1), type_


def _distill(env: Env, btf: Btf, proto: FuncProto, name: str) -> None:
    """Refuse functions that a trampoline cannot call (``btf_distill_func_proto``)."""
    count = len(proto.params)
    if count > MAX_BPF_FUNC_ARGS:
        text = f"The function {name} has {count} arguments. Too many.\n"
        raise env.fail(Errno.EINVAL, text)
    size, type_ = _type_size(btf, proto.type_id)
    if size < 0 or isinstance(type_, Composite):
        text = f"The function {name} return type {type_of_kind_name(type_)} is unsupported.\n"
        raise env.fail(Errno.EINVAL, text)
    for number, param in enumerate(proto.params):
        if number == count - 1 and not param.type_id:
            text = f"The function {name} with variable args is unsupported.\n"
            raise env.fail(Errno.EINVAL, text)
        size, type_ = _type_size(btf, param.type_id)
        if not 0 <= size <= 16 or isinstance(type_, Array):
            text = f"The function {name} arg{number} type {type_of_kind_name(type_)} is unsupported.\n"
            raise env.fail(Errno.EINVAL, text)
        if not size:
            text = f"The function {name} has malformed void argument.\n"
            raise env.fail(Errno.EINVAL, text)


def _struct_ops(env: Env) -> AttachTarget:
    # check_struct_ops_btf_id
    if not env.gpl_compatible:
        text = "struct ops programs must have a GPL compatible license\n"
        raise env.fail(Errno.EINVAL, text)
    id_, btf = env.attr.attach_btf_id, vmlinux()
    if not id_:
        raise env.fail(Errno.ENOTSUPP, "")
    ops = btf.type(id_) if 0 < id_ < btf.nr_types else None
    if ops is None or ops.kind != Kind.STRUCT or ops.name not in STRUCT_OPS:
        raise env.fail(Errno.ENOTSUPP, f"attach_btf_id {id_} is not a supported struct\n")
    assert isinstance(ops, Composite)
    number = env.attr.expected_attach_type
    if number >= len(ops.members):
        text = f"attach to invalid member idx {number} of struct {ops.name}\n"
        raise env.fail(Errno.EINVAL, text)
    member = ops.members[number]
    ptr = btf.resolved(member.type_id)
    proto = btf.type(ptr.type_id) if isinstance(ptr, Ptr) else ptr
    if not isinstance(proto, FuncProto):
        text = f"attach to invalid member {member.name}(@idx {number}) of struct {ops.name}\n"
        raise env.fail(Errno.EINVAL, text)
    unsupported = f"attach to unsupported member {member.name} of struct {ops.name}\n"
    if member.name in STRUCT_OPS[ops.name]:
        raise env.fail(Errno.ENOTSUPP, unsupported)
    if ops.name == "bpf_dummy_ops" and env.sleepable and member.name != "test_sleepable":
        raise env.fail(Errno.EINVAL, unsupported)
    return AttachTarget(
        btf, id_, member.name, proto, arg_info=_stub_args(btf, ops.name, proto, member.name), struct_ops=ops.name
    )


def _stub_args(btf: Btf, ops: str, proto: FuncProto, name: str) -> dict[int, tuple[int, str]]:
    # prepare_arg_info: the names of the arguments of a stub say which may be NULL
    stub = btf.find(f"{ops}__{name}", Kind.FUNC)
    if stub is None:
        return {}
    func = btf.type(stub)
    assert isinstance(func, Func)
    params = btf.type(func.type_id)
    assert isinstance(params, FuncProto)
    found: dict[int, tuple[int, str]] = {}
    for number, (param, real) in enumerate(zip(params.params, proto.params, strict=False)):
        if param.name.endswith("__nullable"):
            ptr = btf.resolved(real.type_id)
            assert isinstance(ptr, Ptr)
            found[8 * number] = (TRUSTED_OR_NULL, btf.resolved(ptr.type_id).name)
    return found
