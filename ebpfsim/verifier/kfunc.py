"""Kernel functions that programs call by BTF id: what they are (add_kfunc_call(), fetch_kfunc_meta(), v6.18)."""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeGuard

from ebpfsim.btf.types import Enum, Func, FuncProto, Int, Ptr, Struct, Type, Union, Void
from ebpfsim.errnos import Errno
from ebpfsim.errors import NotModelled
from ebpfsim.helpers.kfuncs import KF_FASTCALL, KF_ITER, KFUNCS, kfunc_allowed, kfunc_flags
from ebpfsim.isa.insn import Insn

if TYPE_CHECKING:
    from ebpfsim.verifier.env import Env

__all__ = ["Kfunc", "KfuncArg", "add_kfunc_call", "kfunc_summary"]

# functions that ask the device for facts of a frame (XDP_METADATA_KFUNC_xxx)
_DEV_BOUND = ("bpf_xdp_metadata_rx_hash", "bpf_xdp_metadata_rx_timestamp", "bpf_xdp_metadata_rx_vlan_tag")
# callbacks: of functions that return once it ran, and of those that only register it
SYNC_CALLBACK_KFUNCS = frozenset({"bpf_rbtree_add_impl"})
ASYNC_CALLBACK_KFUNCS = frozenset(
    {"bpf_wq_set_callback_impl", "bpf_task_work_schedule_signal_impl", "bpf_task_work_schedule_resume_impl"}
)
PKT_CHANGING_KFUNCS = frozenset({"bpf_xdp_pull_data"})


@dataclass(frozen=True, slots=True)
class KfuncArg:
    """An argument: its type without modifiers, and of a pointer what it points to (``ref``, of id ``ref_id``)."""

    name: str
    type: Type
    type_id: int
    ref: Type
    ref_id: int

    @property
    def is_scalar(self) -> bool:
        """Whether it is a number (``btf_type_is_scalar``)."""
        return isinstance(self.type, (Int, Enum))


@dataclass(frozen=True, slots=True)
class Kfunc:
    """A kernel function as BTF declares it; ``iter_name`` and ``iter_size`` of its iterator, if its first is one."""

    btf_id: int
    name: str
    args: tuple[KfuncArg, ...]
    ret: Type
    flags: int = 0
    iter_name: str = ""
    iter_slots: int = 0

    @property
    def params(self) -> int:
        """The number of parameters."""
        return len(self.args)

    @property
    def is_void(self) -> bool:
        """Whether it returns nothing."""
        return isinstance(self.ret, Void)


# what the loader leaves of a call to a function that this kernel does not have
UNKNOWN_KFUNC = Kfunc(0, "", (), Void(""))


@cache
def load_kfunc(btf_id: int) -> Kfunc | None:
    """Return a function of the kernel by its BTF id, or None when that is no function."""
    # the kernel's BTF is large, and most programs call no function of the kernel
    from ebpfsim.btf.vmlinux import vmlinux

    btf = vmlinux()
    func = btf.type(btf_id) if 0 < btf_id < btf.nr_types else None
    if not isinstance(func, Func):
        return None
    proto = btf.type(func.type_id)
    assert isinstance(proto, FuncProto)
    args = []
    for param in proto.params:
        type_id = btf.resolve(param.type_id)
        type_ = btf.type(type_id)
        ref_id = btf.resolve(type_.type_id) if isinstance(type_, Ptr) else 0
        args.append(KfuncArg(param.name, type_, type_id, btf.type(ref_id), ref_id))
    flags = kfunc_flags(func.name) if func.name in KFUNCS else 0
    iter_name, slots = "", 0
    if flags & KF_ITER or any(arg.name.endswith("__iter") for arg in args):
        state = args[0].ref
        assert isinstance(state, Struct)
        iter_name, slots = state.name.removeprefix("bpf_iter_"), state.size // 8
    return Kfunc(btf_id, func.name, tuple(args), btf.resolved(proto.type_id), flags, iter_name, slots)


def add_kfunc_call(env: "Env", insn: Insn) -> None:
    """Look up the function that an instruction calls (``add_kfunc_call``)."""
    if not env.gpl_compatible:
        text = "cannot call kernel function from non-GPL compatible program\n"
        raise env.fail(Errno.EINVAL, text)
    if insn.off < 0:
        raise env.fail(Errno.EINVAL, "negative offset disallowed for kernel module function call\n")
    if insn.off:
        raise NotModelled("call of a function in a kernel module", "kernel/bpf/verifier.c")
    if not insn.imm:
        env.kfuncs[0] = UNKNOWN_KFUNC
        return
    kfunc = load_kfunc(insn.imm)
    if kfunc is None:
        raise env.fail(Errno.EINVAL, f"kernel btf_id {insn.imm & 0xFFFF_FFFF} is not a function\n")
    if kfunc.name in _DEV_BOUND:
        raise env.fail(Errno.EINVAL, "metadata kfuncs require device-bound program\n")
    env.kfuncs[insn.imm] = kfunc


def fetch_kfunc_meta(env: "Env", insn: Insn) -> Kfunc | None:
    """Return the function that an instruction calls, None when this program may not (``fetch_kfunc_meta``)."""
    if not insn.imm:
        return None
    kfunc = env.kfuncs[insn.imm]
    return kfunc if kfunc_allowed(kfunc.name, env.prog_type, env.attr.expected_attach_type) else None


def kfunc_summary(env: "Env", insn: Insn) -> tuple[int, bool, bool] | None:
    """Return the number of parameters, whether void, whether fastcall (the kfuncs of ``get_call_summary``)."""
    kfunc = fetch_kfunc_meta(env, insn)
    if kfunc is None:
        return None
    return kfunc.params, kfunc.is_void, bool(kfunc.flags & KF_FASTCALL)


def is_struct(type_: Type) -> TypeGuard[Struct | Union]:
    """Say whether a type is a struct or a union (``btf_type_is_struct``)."""
    return isinstance(type_, (Struct, Union))
