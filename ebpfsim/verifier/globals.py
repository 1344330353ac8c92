"""Functions as their BTF declares them: arguments, and whether calls fit (btf_prepare_func_args(), v6.18)."""

from ebpfsim.btf.btf import Btf, essential_name
from ebpfsim.btf.layout import sizeof
from ebpfsim.btf.types import Composite, DeclTag, Enum, Func, FuncProto, Int, Kind, Modifier, Ptr, Struct, Type, Void
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import BtfError
from ebpfsim.helpers.protos import (
    ARG_ANYTHING,
    ARG_DONTCARE,
    ARG_PTR_TO_ARENA,
    ARG_PTR_TO_BTF_ID,
    ARG_PTR_TO_CTX,
    ARG_PTR_TO_DYNPTR,
    ARG_PTR_TO_MEM,
)
from ebpfsim.progs.regtypes import (
    BASE_TYPE_MASK,
    DYNPTR_TYPE_LOCAL,
    MEM_RDONLY,
    PTR_MAYBE_NULL,
    PTR_TO_ARENA,
    PTR_TO_BTF_ID,
    PTR_TO_CTX,
    PTR_TO_MEM,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.progs.types import CTX_TYPES
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.verifier.arg_types import check_reg_type
from ebpfsim.verifier.args import check_func_arg_reg_off, check_helper_mem_access, register_is_null
from ebpfsim.verifier.branch import mark_ptr_not_null_reg
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.dynptr import dynptr_reg, process_dynptr_func
from ebpfsim.verifier.env import Env, Reject, SubprogArg
from ebpfsim.verifier.stack import READ, WRITE
from ebpfsim.verifier.state import UNKNOWN, Reg, pointer
from ebpfsim.verifier.subprog import BTF_FUNC_GLOBAL

__all__ = ["argument_regs", "btf_check_subprog_call", "check_main_signature", "check_mem_reg", "prepare_func_args"]

MAX_BPF_FUNC_REG_ARGS = 5
_TAGS = ("ctx", "trusted", "untrusted", "nonnull", "nullable", "arena")
# btf_kind_str
_KIND_NAMES = {
    Kind.UNKN: "UNKNOWN",
    Kind.FUNC_PROTO: "FUNC_PROTO",
}
# a program may declare the kernel's structure instead of the one that stands for it (btf_is_projection_of)
_PROJECTIONS = {"__sk_buff": "sk_buff", "xdp_md": "xdp_buff"}
_PT_REGS = ("pt_regs", "user_pt_regs", "user_regs_struct")


def _kind_name(type_: Type) -> str:
    return _KIND_NAMES.get(type_.kind, type_.kind.name)


def _pointee(btf: Btf, ptr: Ptr, keep_typedefs: bool) -> Type:
    type_ = btf.type(ptr.type_id)
    while isinstance(type_, Modifier) and not (keep_typedefs and type_.kind == Kind.TYPEDEF):
        type_ = btf.type(type_.type_id)
    return type_


_WORDS = (ProgType.RAW_TRACEPOINT, ProgType.RAW_TRACEPOINT_WRITABLE, ProgType.LSM, ProgType.STRUCT_OPS)


class _Args:
    # one run of btf_prepare_func_args()

    def __init__(self, env: Env, number: int) -> None:
        assert env.attr.btf is not None
        self.env = env
        self.btf = env.attr.btf
        self.info = env.subprogs[number]
        self.is_global = self.info.linkage == BTF_FUNC_GLOBAL

    def refuse(self, text: str, always: bool = False) -> int:
        """Say why the function cannot be converted, if that matters; return the errno."""
        if self.is_global or always:
            self.env.verbose(text)
        return Errno.EINVAL

    def run(self) -> int:
        info, btf = self.info, self.btf
        func = btf.type(info.type_id)
        assert isinstance(func, Func)
        proto = btf.type(func.type_id)
        assert isinstance(proto, FuncProto)
        if len(proto.params) > MAX_BPF_FUNC_REG_ARGS:
            return self.refuse(
                f"Global function {func.name}() with {len(proto.params)} > {MAX_BPF_FUNC_REG_ARGS} args. "
                "Buggy compiler.\n"
            )
        if not isinstance(btf.resolved(proto.type_id), (Int, Enum)):
            return self.refuse(f"Global function {func.name}() doesn't return scalar. Only those are supported.\n")
        args: list[SubprogArg] = []
        for number, param in enumerate(proto.params):
            tags = self.tags(number)
            if isinstance(tags, int):
                return tags
            result = self.convert(number, btf.resolved(param.type_id), tags, func.name)
            if isinstance(result, int):
                return result
            args.append(result)
        info.args = args
        return 0

    def tags(self, number: int) -> set[str] | int:
        """Return the ``arg:`` tags of a parameter, or an errno."""
        found: set[str] = set()
        for type_id in self.btf.ids_of_kind(Kind.DECL_TAG):
            tag = self.btf.type(type_id)
            assert isinstance(tag, DeclTag)
            if tag.type_id != self.info.type_id or tag.component_idx != number or not tag.name.startswith("arg:"):
                continue
            if not self.is_global:
                self.env.verbose(f"arg#{number} type tag is not supported in static functions\n")
                return Errno.EOPNOTSUPP
            if tag.name[4:] not in _TAGS:
                self.env.verbose(f"arg#{number} has unsupported set of tags\n")
                return Errno.EOPNOTSUPP
            found.add(tag.name[4:])
        return found

    def convert(self, number: int, type_: Type, tags: set[str], name: str) -> SubprogArg | int:
        """Return what a parameter of this type takes, or an errno."""
        if isinstance(type_, Ptr):
            return self.convert_pointer(number, type_, tags)
        if tags:
            return self.refuse(f"arg#{number} has pointer tag, but is not a pointer type\n", True)
        if isinstance(type_, (Int, Enum)):
            return SubprogArg(ARG_ANYTHING)
        return self.refuse(f"Arg#{number} type {_kind_name(type_)} in {name}() is not supported yet.\n")

    def convert_pointer(self, number: int, ptr: Ptr, tags: set[str]) -> SubprogArg | int:
        bad_tags = f"arg#{number} has invalid combination of tags\n"
        if "ctx" in tags or self.is_ctx(ptr):
            if tags - {"ctx"}:
                return self.refuse(bad_tags, True)
            if tags and not self.valid_ctx(number, ptr):
                return Errno.EINVAL
            return SubprogArg(ARG_PTR_TO_CTX)
        target = _pointee(self.btf, ptr, False)
        if isinstance(target, Struct) and target.name == "bpf_dynptr":
            if tags:
                return self.refuse(bad_tags, True)
            return SubprogArg(ARG_PTR_TO_DYNPTR | MEM_RDONLY)
        if "trusted" in tags:
            if "nonnull" in tags:
                return self.refuse(bad_tags, True)
            nullable = PTR_MAYBE_NULL if "nullable" in tags else 0
            return self.kernel_type(number, target, ARG_PTR_TO_BTF_ID | PTR_TRUSTED | nullable)
        if "untrusted" in tags:
            if tags != {"untrusted"}:
                text = f"arg#{number} untrusted cannot be combined with any other tags\n"
                return self.refuse(text, True)
            if isinstance(target, (Void, Int, Enum)):
                return SubprogArg(ARG_PTR_TO_MEM | MEM_RDONLY | PTR_UNTRUSTED)
            return self.kernel_type(number, target, ARG_PTR_TO_BTF_ID | PTR_UNTRUSTED)
        if "arena" in tags:
            return self.refuse(bad_tags, True) if tags != {"arena"} else SubprogArg(ARG_PTR_TO_ARENA)
        if not self.is_global:
            return Errno.EINVAL
        if "nullable" in tags:
            return self.refuse(bad_tags, True)
        try:
            size = sizeof(self.btf, ptr.type_id)
        except BtfError:
            text = f"arg#{number} reference type('{_kind_name(target)} {target.name}') size cannot be determined: -22\n"
            return self.refuse(text)
        return SubprogArg(ARG_PTR_TO_MEM | (0 if "nonnull" in tags else PTR_MAYBE_NULL), size)

    def kernel_type(self, number: int, target: Type, arg_type: int) -> SubprogArg | int:
        # btf_get_ptr_to_btf_id: the kernel's type of the same name, without the program's flavour
        name, kernel = target.name, vmlinux()
        if not name:
            self.env.verbose(
                f"arg#{number} reference type('{_kind_name(target)} (anon)') candidate matching error: -22\n"
            )
            return Errno.EINVAL
        found = kernel.ids_by_essential_name(essential_name(name), target.kind)
        if len(found) != 1:
            what = "is ambiguous" if found else "has no matches"
            self.env.verbose(f"arg#{number} reference type('{_kind_name(target)} {name}') {what}\n")
            return Errno.ESRCH if found else Errno.ENOENT
        if arg_type & PTR_UNTRUSTED and not isinstance(kernel.type(found[0]), Composite):
            text = f"arg#{number} has type {_kind_name(target)} '', but only struct or primitive types are allowed\n"
            return self.refuse(text, True)
        return SubprogArg(arg_type, btf_id=found[0])

    def is_ctx(self, ptr: Ptr) -> bool:
        # btf_is_prog_ctx_type
        prog_type = self.env.prog_type
        if prog_type == ProgType.KPROBE and self.is_user_regs(ptr):
            return True
        target = _pointee(self.btf, ptr, False)
        if target.kind not in (Kind.STRUCT, Kind.UNION):
            return False
        names = CTX_TYPES.get(prog_type, ())
        return bool(names) and (target.name in names or _PROJECTIONS.get(names[0]) == target.name)

    def is_user_regs(self, ptr: Ptr) -> bool:
        target = _pointee(self.btf, ptr, True)
        return target.kind == Kind.TYPEDEF and target.name == "bpf_user_pt_regs_t"

    def takes_words(self) -> bool:
        """Say whether the context is an array of 64-bit words."""
        prog_type = self.env.prog_type
        if prog_type == ProgType.TRACING:
            return not self.env.expected_attach(AttachType.TRACE_ITER)
        return prog_type in _WORDS

    def is_tracing_ctx(self, name: str) -> bool:
        if self.env.expected_attach(AttachType.TRACE_ITER):
            return name.startswith("bpf_iter__")
        return self.env.expected_attach(AttachType.TRACE_RAW_TP) and name == "bpf_raw_tracepoint_args"

    def valid_ctx(self, number: int, ptr: Ptr) -> bool:
        # btf_validate_prog_ctx_type: the tag says context, the type must agree
        prog_type = self.env.prog_type
        if prog_type in (ProgType.KPROBE, ProgType.PERF_EVENT) and self.is_user_regs(ptr):
            return True
        target = _pointee(self.btf, ptr, False)
        if isinstance(target, Void) or prog_type in (ProgType.TRACEPOINT, ProgType.SYSCALL, ProgType.EXT):
            return True
        if not target.name:
            self.env.verbose(f"arg#{number} type doesn't have a name\n")
            return False
        is_struct = target.kind in (Kind.STRUCT, Kind.UNION)
        if prog_type == ProgType.KPROBE and is_struct and target.name == "pt_regs":
            return True
        if prog_type == ProgType.PERF_EVENT and is_struct and target.name in _PT_REGS[:1]:
            return True
        if self.takes_words() and isinstance(target, Int) and target.size == 8:
            return True
        if prog_type == ProgType.TRACING and is_struct and self.is_tracing_ctx(target.name):
            return True
        names = CTX_TYPES.get(prog_type, ())
        if not names:
            self.env.verbose(f"arg#{number} should be void pointer\n")
            return False
        if not is_struct or target.name != names[-1]:
            self.env.verbose(f"arg#{number} should be `struct {names[-1]} *`\n")
            return False
        return True


def prepare_func_args(env: Env, number: int) -> int:
    """Find out what the arguments of a function are; an errno, or 0 (``btf_prepare_func_args``)."""
    info = env.subprogs[number]
    if info.args is not None:
        return 0
    if info.unreliable:
        raise env.bug(f"unreliable BTF for function {info.name}()")
    return _Args(env, number).run()


def check_main_signature(env: Env) -> None:
    """Mark the BTF of the main function as unreliable unless it takes a context."""
    info = env.subprogs[0]
    failed = prepare_func_args(env, 0)
    if failed or info.args is None or [arg.arg_type for arg in info.args] != [ARG_PTR_TO_CTX]:
        info.unreliable = True


def argument_regs(env: Env, number: int) -> list[Reg]:
    """Return R1, R2, ... as a global function may rely on them (the beginning of ``do_check_common``)."""
    regs = []
    for arg in env.subprogs[number].args or ():
        if arg.arg_type == ARG_PTR_TO_CTX:
            regs.append(pointer(PTR_TO_CTX))
        elif arg.arg_type == ARG_ANYTHING:
            regs.append(UNKNOWN)
        elif arg.arg_type & BASE_TYPE_MASK == ARG_PTR_TO_DYNPTR:
            regs.append(dynptr_reg(DYNPTR_TYPE_LOCAL, True, env.next_id()))
        elif arg.arg_type == ARG_PTR_TO_ARENA:
            regs.append(UNKNOWN)
        elif arg.arg_type & BASE_TYPE_MASK == ARG_PTR_TO_BTF_ID:
            flags = arg.arg_type & (PTR_MAYBE_NULL | PTR_UNTRUSTED | PTR_TRUSTED)
            reg = pointer(PTR_TO_BTF_ID | flags, BtfId(vmlinux(), arg.btf_id))
            reg.id = env.next_id()
            regs.append(reg)
        else:
            flags = arg.arg_type & (PTR_MAYBE_NULL | PTR_UNTRUSTED | MEM_RDONLY)
            reg = pointer(PTR_TO_MEM | flags, arg.mem_size)
            if flags & PTR_MAYBE_NULL:
                reg.id = env.next_id()
            regs.append(reg)
    return regs


def check_mem_reg(env: Env, regs: list[Reg], regno: int, size: int) -> None:
    """Check memory that a function may read and write, unless the pointer is NULL (``check_mem_reg``)."""
    reg = regs[regno]
    if register_is_null(reg):
        return
    if reg.type & PTR_MAYBE_NULL and reg.type != SCALAR_VALUE:
        regs[regno] = mark_ptr_not_null_reg(reg)
    check_helper_mem_access(env, regno, size, READ, True, None)
    check_helper_mem_access(env, regno, size, WRITE, True, None)
    regs[regno] = reg


def _check_arg(env: Env, regs: list[Reg], number: int, arg: SubprogArg) -> int:
    regno = number + 1
    reg = regs[regno]
    if arg.arg_type == ARG_ANYTHING:
        if reg.type != SCALAR_VALUE:
            env.verbose(f"R{regno} is not a scalar\n")
            return Errno.EINVAL
    elif arg.arg_type & PTR_UNTRUSTED:
        # reads only, which cannot fault
        return 0
    elif arg.arg_type == ARG_PTR_TO_CTX:
        check_func_arg_reg_off(env, reg, regno, ARG_PTR_TO_CTX)
        if reg.type != PTR_TO_CTX:
            env.verbose(f"arg#{number} expects pointer to ctx\n")
            return Errno.EINVAL
    elif arg.arg_type & BASE_TYPE_MASK == ARG_PTR_TO_DYNPTR:
        check_func_arg_reg_off(env, reg, regno, ARG_PTR_TO_DYNPTR)
        process_dynptr_func(env, regno, -1, arg.arg_type)
    elif arg.arg_type == ARG_PTR_TO_ARENA:
        # anything would do no harm, but anything else is a mistake
        if reg.type not in (PTR_TO_ARENA, SCALAR_VALUE):
            env.verbose(f"R{regno} is not a pointer to arena or scalar.\n")
            return Errno.EINVAL
    elif arg.arg_type & BASE_TYPE_MASK == ARG_PTR_TO_BTF_ID:
        if not (register_is_null(reg) and arg.arg_type & PTR_MAYBE_NULL):
            check_reg_type(env, regno, arg.arg_type, 0, BtfId(vmlinux(), arg.btf_id))
            check_func_arg_reg_off(env, reg, regno, arg.arg_type)
    elif arg.arg_type & BASE_TYPE_MASK == ARG_PTR_TO_MEM:
        check_func_arg_reg_off(env, reg, regno, ARG_DONTCARE)
        try:
            check_mem_reg(env, regs, regno, arg.mem_size)
        except Reject:
            regs[regno] = reg
            return Errno.EINVAL
        if not arg.arg_type & PTR_MAYBE_NULL and reg.type & PTR_MAYBE_NULL:
            env.verbose(f"arg#{number} is expected to be non-NULL\n")
            return Errno.EINVAL
    return 0


def _match_args(env: Env, number: int, regs: list[Reg]) -> int:
    # btf_check_func_arg_match
    errno = prepare_func_args(env, number)
    if errno:
        return errno
    for i, arg in enumerate(env.subprogs[number].args or ()):
        try:
            errno = _check_arg(env, regs, i, arg)
        except Reject as reject:
            errno = reject.errno
        if errno:
            return errno
    return 0


def btf_check_subprog_call(env: Env, number: int, regs: list[Reg]) -> int:
    """Compare the arguments of a call with the BTF of the function; an errno, or 0 (``btf_check_subprog_call``)."""
    info = env.subprogs[number]
    if not env.attr.func_info or info.unreliable:
        return Errno.EINVAL
    errno = _match_args(env, number, regs)
    if errno == Errno.EFAULT:
        raise Reject(errno)
    info.unreliable = info.unreliable or bool(errno)
    return errno
