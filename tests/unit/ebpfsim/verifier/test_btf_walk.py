"""Following offsets through structures: the answers are those of include/linux/sched.h and include/net/sock.h."""

import pytest

from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.progs.regtypes import (
    MEM_RDONLY,
    PTR_TO_BTF_ID,
    PTR_TO_MEM,
    PTR_UNTRUSTED,
    SCALAR_VALUE,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.btf_walk import btf_struct_access, btf_struct_ids_match
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env, LoadAttr, Reject


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


@pytest.fixture
def env() -> Env:
    return Env(LoadAttr(ProgType.TRACING, (), log_level=2), NoMaps())


def struct(name: str) -> BtfId:
    return BtfId(vmlinux(), vmlinux().by_name(name, Kind.STRUCT))


def offset(name: str, path: str) -> int:
    return member_place(vmlinux(), struct(name).id, path).bit_off // 8


@pytest.mark.parametrize(
    ("path", "size", "type_", "flags", "target"),
    [
        ("pid", 4, SCALAR_VALUE, 0, ""),
        ("comm", 8, SCALAR_VALUE, 0, ""),
        # gcc leaves no tags for __rcu
        ("real_parent", 8, PTR_TO_BTF_ID, 0, "task_struct"),
        ("group_leader", 8, PTR_TO_BTF_ID, 0, "task_struct"),
        ("stack", 8, PTR_TO_MEM, MEM_RDONLY | PTR_UNTRUSTED, ""),
        ("tasks.next", 8, PTR_TO_BTF_ID, 0, "list_head"),
    ],
)
def test_members_of_a_task(env: Env, path: str, size: int, type_: int, flags: int, target: str) -> None:
    found = btf_struct_access(env, struct("task_struct"), offset("task_struct", path), size)
    assert (found.type, found.flags) == (type_, flags)
    if target:
        assert vmlinux().name_of(found.id) == target


def test_members_of_unions_are_not_trusted(env: Env) -> None:
    # include/linux/skbuff.h: next is in a union with rbnode, ll_node and others
    found = btf_struct_access(env, struct("sk_buff"), offset("sk_buff", "next"), 8)
    assert (found.type, found.flags) == (PTR_TO_BTF_ID, PTR_UNTRUSTED)


@pytest.mark.parametrize(
    ("off", "size", "text"),
    [
        (1 << 20, 8, "access beyond struct task_struct at off 1048576 size 8\n"),
        (-8, 1, "access beyond struct task_struct at off 4294967288 size 1\n"),
    ],
)
def test_accesses_outside_say_where(env: Env, off: int, size: int, text: str) -> None:
    with pytest.raises(Reject):
        btf_struct_access(env, struct("task_struct"), off, size)
    assert str(env.log) == text


def test_an_access_beyond_a_member_names_it(env: Env) -> None:
    # tools/testing/selftests/bpf/progs/task_kfunc_failure.c: task_access_comm1
    comm = offset("task_struct", "comm")
    with pytest.raises(Reject):
        btf_struct_access(env, struct("task_struct"), comm, 17)
    assert str(env.log).startswith(f"access beyond the end of member comm (mend:{comm + 16}) in struct task_struct")


def test_pointers_are_read_whole(env: Env) -> None:
    place = offset("task_struct", "mm")
    with pytest.raises(Reject):
        btf_struct_access(env, struct("task_struct"), place, 4)
    assert "cannot access ptr member mm with moff" in str(env.log)


def test_sockets_begin_with_what_they_have_in_common(env: Env) -> None:
    assert btf_struct_ids_match(env, struct("tcp_sock"), 0, struct("sock_common"), False)
    assert not btf_struct_ids_match(env, struct("tcp_sock"), 0, struct("sock_common"), True)
    assert not btf_struct_ids_match(env, struct("tcp_sock"), 8, struct("sock_common"), False)


def test_an_object_within_another_is_found_by_its_offset(env: Env) -> None:
    place = offset("task_struct", "se")
    assert sizeof(vmlinux(), struct("sched_entity").id) > 0
    assert btf_struct_ids_match(env, struct("task_struct"), place, struct("sched_entity"), False)
