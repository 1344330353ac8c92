"""Fact "lsm_cgroup" (Linux 6.12): child first then parent, ALL run; 0 -> EPERM; bpf_set_retval(-13) wins even when
returning 1; return range [0, 1]; info: type 3, attach_type 43, cgroup_id."""

from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P

ALLOW, DENY = "r0 = 1; exit", "r0 = 0; exit"
SET = "r1 = -13; call bpf_set_retval; r0 = {}; exit"
HOOK = "bpf_lsm_task_getpgid"


class Lab:
    """A host with a task in /a/b."""

    def __init__(self) -> None:
        self.host = Simulation(seed=1).host("h")
        self.bpf = self.host.bpf
        self.task = self.host.spawn("t", cgroup="/a/b")
        self.groups = {path: self.group(path) for path in ("/", "/a", "/a/b", "/c")}

    def group(self, path: str) -> int:
        group = self.host.cgroup(path)
        group.get()
        return self.host.kernel.fds.install(group)

    def load(self, code: str = ALLOW, name: str = "", hook: str = HOOK, expected: A = A.LSM_CGROUP) -> int:
        number = vmlinux().find(hook, Kind.FUNC)
        insns = encode(assemble(code))
        return self.bpf.prog_load(P.LSM, insns, name=name, expected_attach_type=expected, attach_btf_id=number).fd

    def link(self, path: str, code: str = ALLOW, name: str = "", hook: str = HOOK) -> int:
        return self.bpf.link_create(self.load(code, name, hook), self.groups[path], A.LSM_CGROUP)

    def call(self) -> tuple[int, list[str]]:
        """Make a task call getpgid(); return what it got and who ran."""
        runs = self.host.sim.recorder.runs
        runs.clear()
        return self.host.syscall(self.task, "getpgid", 0), [run.prog for run in runs]


def refused(call: Callable[..., Any], *args: Any, **more: Any) -> str:
    with pytest.raises(KernelError) as error:
        call(*args, **more)
    return error.value.errno_name


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_child_first_then_parent_and_all_run(lab: Lab) -> None:
    for path, name in (("/a", "parent"), ("/a/b", "child"), ("/c", "other"), ("/", "root")):
        lab.link(path, name=name)
    ret, ran = lab.call()
    assert (ret > 0, ran) == (True, ["child", "parent", "root"])
    lab.link("/a/b", DENY, "deny")
    assert lab.call() == (-1, ["child", "deny", "parent", "root"])


@pytest.mark.parametrize("result", [0, 1])
def test_a_set_retval_wins(lab: Lab, result: int) -> None:
    lab.link("/a", SET.format(result))
    assert lab.call()[0] == -13


def test_results_are_0_and_1(lab: Lab) -> None:
    with pytest.raises(VerifierError) as error:
        lab.load("r0 = 2; exit")
    assert "should have been in [0, 1]" in error.value.log


def test_info(lab: Lab) -> None:
    info = lab.bpf.obj_get_info_by_fd(lab.link("/a"))
    assert (info.type, info.attach_type, info.cgroup_id) == (3, 43, lab.host.cgroup("/a").cgroup_id)


def test_a_shim_for_all_cgroups_comes_and_goes(lab: Lab) -> None:
    kernel = lab.host.kernel
    links = [lab.link(path) for path in ("/a", "/c")]
    (trampoline,) = kernel.trampolines.by_key.values()
    assert (trampoline.nr_links, trampoline.site.name) == (1, HOOK)
    for link in links:
        lab.bpf.close(link)
    assert not kernel.trampolines.by_key
    # programs of the whole machine are beside it, the last one that came first
    lsm = lab.load("r0 = 0; exit", "all", expected=A.LSM_MAC)
    lab.link("/a", name="group")
    lab.bpf.link_create(lsm, 0, A.LSM_MAC)
    assert lab.call()[1] == ["all", "group"]


def test_a_removed_cgroup_lets_go(lab: Lab) -> None:
    lab.link("/c")
    lab.host.kernel.cgroups.rmdir("/c")
    assert not lab.host.kernel.trampolines.by_key


def test_update_detach_and_query(lab: Lab) -> None:
    link = lab.link("/a", DENY, "no")
    assert lab.call()[0] == -1
    yes = lab.load(ALLOW, "yes")
    lab.bpf.link_update(link, yes)
    assert lab.call()[0] > 0
    other = lab.load(hook="bpf_lsm_task_getsid")
    assert refused(lab.bpf.link_update, link, other) == "EINVAL"
    found = lab.bpf.prog_query(lab.groups["/a"], A.LSM_CGROUP)
    assert list(found.prog_ids) == [lab.bpf.obj_get_info_by_fd(yes).id]
    lab.bpf.link_detach(link)
    assert lab.bpf.prog_query(lab.groups["/a"], A.LSM_CGROUP).prog_ids == ()
    assert refused(lab.bpf.link_update, link, yes) == "ENOLINK"


def test_programs_by_themselves(lab: Lab) -> None:
    fd, group = lab.load(DENY, "alone"), lab.groups["/a"]
    lab.bpf.prog_attach(fd, group, A.LSM_CGROUP, flags=2)
    assert lab.call() == (-1, ["alone"])
    assert refused(lab.bpf.prog_attach, fd, group, A.LSM_CGROUP, flags=2) == "EINVAL"
    lab.bpf.prog_detach(fd, group, A.LSM_CGROUP)
    assert refused(lab.bpf.prog_detach, fd, group, A.LSM_CGROUP) == "EINVAL"
    assert lab.call()[0] > 0


def test_ten_hooks_are_the_most(lab: Lab) -> None:
    words = "task_getpgid task_getsid task_getscheduler task_setnice task_kill file_open inode_unlink inode_mkdir"
    names = [*words.split(), "inode_rmdir", "inode_create", "inode_rename"]
    links = [lab.link("/a", hook=f"bpf_lsm_{name}") for name in names[:10]]
    assert refused(lab.link, "/a", hook=f"bpf_lsm_{names[10]}") == "E2BIG"
    lab.bpf.close(links[0])
    lab.link("/a", hook=f"bpf_lsm_{names[10]}")


def test_what_is_not_for_a_cgroup(lab: Lab) -> None:
    mac = lab.load(ALLOW.replace("1", "0"), expected=A.LSM_MAC)
    assert refused(lab.bpf.link_create, mac, lab.groups["/a"], A.LSM_CGROUP) == "EINVAL"
    assert refused(lab.bpf.link_create, lab.load(), 987, A.LSM_CGROUP) == "EBADF"
    assert not lab.host.kernel.trampolines.by_key
