"""BTF pointers as arguments of helpers: the messages are those of check_reg_type(), kernel/bpf/verifier.c."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.helpers.protos import ARG_PTR_TO_BTF_ID, ARG_PTR_TO_BTF_ID_SOCK_COMMON
from ebpfsim.progs.regtypes import MEM_ALLOC, MEM_PERCPU, OBJ_RELEASE, PTR_MAYBE_NULL, PTR_TRUSTED
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.btf_args import check_btf_arg
from ebpfsim.verifier.btfid import BtfId, btf_pointer
from ebpfsim.verifier.env import Env, LoadAttr, Reject


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_with(struct: str, flags: int) -> Env:
    env = Env(LoadAttr(ProgType.TRACING, (), log_level=2), NoMaps())
    env.cur_state.frames[-1].regs[1] = btf_pointer(env, flags, vmlinux(), vmlinux().by_name(struct, Kind.STRUCT))
    return env


@pytest.mark.parametrize(
    ("struct", "flags", "arg_type", "want"),
    [
        ("task_struct", PTR_TRUSTED, ARG_PTR_TO_BTF_ID, "task_struct"),
        ("task_struct", PTR_TRUSTED | PTR_MAYBE_NULL, ARG_PTR_TO_BTF_ID | PTR_MAYBE_NULL, "task_struct"),
        ("tcp_sock", 0, ARG_PTR_TO_BTF_ID_SOCK_COMMON, ""),
        ("rq", MEM_PERCPU, ARG_PTR_TO_BTF_ID, "task_struct"),
    ],
)
def test_fitting_pointers_pass(struct: str, flags: int, arg_type: int, want: str) -> None:
    check_btf_arg(env_with(struct, flags), 1, arg_type, 1, want)


def test_types_may_be_given_by_number() -> None:
    need = BtfId(vmlinux(), vmlinux().by_name("task_struct", Kind.STRUCT))
    check_btf_arg(env_with("task_struct", PTR_TRUSTED), 1, ARG_PTR_TO_BTF_ID, 0, need)


@pytest.mark.parametrize(
    ("struct", "flags", "arg_type", "want", "text"),
    [
        ("file", PTR_TRUSTED, ARG_PTR_TO_BTF_ID, "task_struct", "R1 is of type file but task_struct is expected\n"),
        (
            "task_struct",
            PTR_TRUSTED | PTR_MAYBE_NULL,
            ARG_PTR_TO_BTF_ID,
            "task_struct",
            "Possibly NULL pointer passed to helper arg1\n",
        ),
        # the type of what is released must be the very one
        ("tcp_sock", 0, ARG_PTR_TO_BTF_ID | OBJ_RELEASE, "sock", "R1 is of type tcp_sock but sock is expected\n"),
        (
            "task_struct",
            MEM_ALLOC,
            ARG_PTR_TO_BTF_ID,
            "task_struct",
            "verifier bug: unimplemented handling of MEM_ALLOC\n",
        ),
    ],
)
def test_others_are_refused(struct: str, flags: int, arg_type: int, want: str, text: str) -> None:
    env = env_with(struct, flags)
    with pytest.raises(Reject):
        check_btf_arg(env, 1, arg_type, 1, want)
    assert str(env.log).endswith(text)
