"""Test runs of members of ``struct bpf_dummy_ops`` (net/bpf/bpf_dummy_struct_ops.c, v6.18).

The context is the arguments, 8 bytes each. The first one is where the caller keeps the state: the program gets a copy,
which goes back to the caller. Repetitions, flags and data are not looked at.
"""

from struct import Struct
from typing import TYPE_CHECKING, Protocol, cast

from ebpfsim.btf.types import Composite, Kind, Ptr
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.jit.engine import execute
from ebpfsim.memory.user import UserMemory
from ebpfsim.progs.prog import AttachTarget, Prog
from ebpfsim.progs.regtypes import PTR_MAYBE_NULL
from ebpfsim.syscall.results import TestRun
from ebpfsim.test_run.attr import OP, TestRunAttr
from hooks.frame import pop_frame, push_frame
from hooks.func_model import func_model
from hooks.run import bpf_prog_run

if TYPE_CHECKING:
    from ebpfsim.syscall.kernel import BpfKernel

__all__ = ["test_run_struct_ops"]

STATE = "bpf_dummy_ops_state"


class _Bpf(Protocol):
    user: UserMemory


class _Caller(Protocol):
    bpf: _Bpf


def test_run_struct_ops(kernel: "BpfKernel", prog: Prog, attr: TestRunAttr, stats_enabled: bool) -> TestRun:
    """Call a member with arguments: EOPNOTSUPP for other structures, EINVAL for arguments that do not fit."""
    target = prog.attach_target
    if target is None or target.proto is None or target.struct_ops != "bpf_dummy_ops":
        raise KernelError(OP, Errno.EOPNOTSUPP, "only members of bpf_dummy_ops are run")
    nr_args = len(target.proto.params)
    if len(attr.ctx_in) != 8 * nr_args:
        raise KernelError(OP, Errno.EINVAL, f"ctx_in of {len(attr.ctx_in)} bytes for {nr_args} arguments")
    args = list(Struct(f"<{nr_args}Q").unpack(attr.ctx_in))
    _check_pointers(target, args)
    user, mem, cpu = cast(_Caller, kernel).bpf.user, kernel.mem, kernel.cpus[0]
    theirs, size = args[0], _state_bytes(target)
    state = mem.alloc(size, what=STATE)
    frame_bytes = -(-8 * (nr_args + 1) // 16) * 16
    before_ps = cpu.elapsed_ps
    ctx = push_frame(mem, cpu, frame_bytes)
    try:
        if theirs:
            mem.write(state, user.read(theirs, size))
            args[0] = state
        model = func_model(target.btf, target.proto)
        words = model.words(tuple(args))
        mem.write(ctx, Struct(f"<{nr_args}Q").pack(*words))
        retval = model.ret_word(bpf_prog_run(kernel, prog, ctx, cpu, execute).r0)
        if theirs:
            user.write(theirs, mem.read(state, size))
    finally:
        pop_frame(mem, cpu, ctx, frame_bytes)
        mem.free(state)
        cpu.elapsed_ps = before_ps
    return TestRun(retval & 0xFFFF_FFFF, b"", b"", 0)


test_run_struct_ops.__test__ = False  # type: ignore[attr-defined]


def _check_pointers(target: AttachTarget, args: list[int]) -> None:
    # check_test_run_args: programs may rely on pointers that are not said to be NULL at times
    assert target.proto is not None
    for number, param in enumerate(target.proto.params):
        nullable = target.arg_info.get(8 * number, (0, ""))[0] & PTR_MAYBE_NULL
        if isinstance(target.btf.resolved(param.type_id), Ptr) and not args[number] and not nullable:
            raise KernelError(OP, Errno.EINVAL, f"argument {number} is NULL")


def _state_bytes(target: AttachTarget) -> int:
    state = target.btf.type(target.btf.by_name(STATE, Kind.STRUCT))
    assert isinstance(state, Composite)
    return state.size
