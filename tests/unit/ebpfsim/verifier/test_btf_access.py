"""What pointers into the kernel's structures are worth: kernel/bpf/verifier.c, is_trusted_reg() and in_rcu_cs()."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.progs.regtypes import (
    MEM_ALLOC,
    MEM_RCU,
    PTR_MAYBE_NULL,
    PTR_TO_BTF_ID,
    PTR_TO_SOCKET,
    PTR_TRUSTED,
    PTR_UNTRUSTED,
)
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.btf_access import _MAP_STRUCTS, check_ptr_to_btf_access, in_rcu_cs, is_rcu_reg, is_trusted_reg
from ebpfsim.verifier.btfid import BtfId, btf_pointer
from ebpfsim.verifier.env import Env, LoadAttr, Reject
from ebpfsim.verifier.state import Reg, pointer


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def env_of(license_: str = "GPL") -> Env:
    return Env(LoadAttr(ProgType.TRACING, (), log_level=2, license=license_), NoMaps())


def task(env: Env, flags: int) -> Reg:
    return btf_pointer(env, flags, vmlinux(), vmlinux().by_name("task_struct", Kind.STRUCT))


@pytest.mark.parametrize(
    ("flags", "trusted"),
    [
        (0, False),
        (PTR_TRUSTED, True),
        (MEM_ALLOC, True),
        (MEM_RCU, False),
        (PTR_TRUSTED | PTR_MAYBE_NULL, False),
        (PTR_UNTRUSTED, False),
    ],
)
def test_trust_is_a_matter_of_flags(flags: int, trusted: bool) -> None:
    assert is_trusted_reg(task(env_of(), flags)) is trusted


def test_references_and_sockets_are_trusted() -> None:
    held = task(env_of(), 0)
    held.ref_obj_id = 3
    assert is_trusted_reg(held)
    assert is_trusted_reg(pointer(PTR_TO_SOCKET))
    assert is_rcu_reg(task(env_of(), MEM_RCU))


def test_programs_that_cannot_sleep_are_in_a_critical_section() -> None:
    env = env_of()
    assert in_rcu_cs(env)
    env.cur_state.in_sleepable = True
    assert not in_rcu_cs(env)
    env.cur_state.active_rcu_locks = 1
    assert in_rcu_cs(env)


def load(env: Env, reg: Reg, path: str) -> Reg:
    from ebpfsim.btf.layout import member_place

    env.cur_state.frames[-1].regs[1] = reg
    target = reg.raw
    assert isinstance(target, BtfId)
    place = member_place(target.btf, target.id, path)
    return check_ptr_to_btf_access(env, 1, place.bit_off // 8, 8, 1)


@pytest.mark.parametrize(
    ("flags", "path", "result"),
    [
        # task_struct__safe_rcu lists real_parent and cgroups, mm is in no list
        (PTR_TRUSTED, "real_parent", MEM_RCU),
        (PTR_TRUSTED, "mm", 0),
        (PTR_UNTRUSTED, "real_parent", PTR_UNTRUSTED),
        (0, "real_parent", 0),
    ],
)
def test_members_inherit_trust(flags: int, path: str, result: int) -> None:
    env = env_of()
    assert load(env, task(env, flags), path).type == PTR_TO_BTF_ID | result


def test_what_may_go_away_while_sleeping_is_not_trusted() -> None:
    env = env_of()
    env.cur_state.in_sleepable = True
    assert load(env, task(env, PTR_TRUSTED), "real_parent").type == PTR_TO_BTF_ID | PTR_UNTRUSTED


def test_programs_without_a_licence_see_nothing_of_the_kernel() -> None:
    env = env_of("Proprietary")
    with pytest.raises(Reject):
        load(env, task(env, PTR_TRUSTED), "mm")
    assert str(env.log) == "Cannot access kernel 'struct task_struct' from non-GPL compatible program\n"


def test_writes_are_refused() -> None:
    env = env_of()
    env.cur_state.frames[-1].regs[1] = task(env, PTR_TRUSTED)
    with pytest.raises(Reject):
        check_ptr_to_btf_access(env, 1, 0, 8, 2)
    assert str(env.log) == "only read is supported\n"


@pytest.mark.parametrize("name", sorted(set(_MAP_STRUCTS.values())))
def test_structures_behind_map_pointers_exist(name: str) -> None:
    assert vmlinux().find(name, Kind.STRUCT) is not None
