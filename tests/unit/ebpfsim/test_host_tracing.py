"""Attaching by the methods of a host, and by obj.attach(), which follows SEC() as libbpf does."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InputError, KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import ProgType

DATA = Path(__file__).resolve().parents[2] / "data" / "trampolines"


@pytest.fixture
def host():
    return Simulation(seed=1).host("h")


@pytest.fixture
def obj(host):
    return host.load(DATA / "kernel.bpf.o")


def fire(host) -> None:
    cpu, call = host.kernel.cpus[0], host.kernel.functions
    call.bpf_fentry_test1(cpu, 1)
    call.bpf_modify_return_test_tp(cpu, 1)
    call.security_file_open(cpu, 0)


def test_obj_attach_follows_the_sections(host, obj) -> None:
    links = obj.attach()
    assert list(links) == [name for name in obj.programs if name != "plain"]
    fire(host)
    assert list(obj.bss["runs"]) == [1] * 8
    assert {link.runs for link in links.values()} == {1}
    assert links["lsm"].verdicts == {"-13": 1}
    for link in links.values():
        link.close()
    fire(host)
    assert list(obj.bss["runs"]) == [1] * 8


def test_an_object_without_a_host_attaches_nothing() -> None:
    from ebpfsim.loader import open_object

    with pytest.raises(InputError, match="needs a host"):
        open_object(DATA / "kernel.bpf.o").attach()


@pytest.mark.parametrize(
    ("method", "name", "args"),
    [
        ("attach_fentry", "fentry", ()),
        ("attach_fexit", "fexit", ()),
        ("attach_kprobe", "kprobe", ("bpf_fentry_test1",)),
        ("attach_kretprobe", "kretprobe", ("bpf_fentry_test1",)),
        ("attach_kprobe_multi", "multi", (["bpf_fentry_test1"],)),
        ("attach_raw_tp", "raw_tp", ("bpf_trigger_tp",)),
        ("attach_raw_tp", "tp_btf", ()),
        ("attach_lsm", "lsm", ()),
    ],
)
def test_methods(host, obj, method, name, args) -> None:
    with getattr(host, method)(obj.programs[name], *args, label="mine") as link:
        fire(host)
        assert link.runs == 1
    fire(host)
    assert sum(obj.bss["runs"]) == 1
    assert {run.link for run in host.kernel.recorder.runs} == {"mine"}


def test_a_program_that_was_loaded_for_something_else(host, obj) -> None:
    with pytest.raises(InputError, match="program 'fexit' was not loaded for fentry"):
        host.attach_fentry(obj.programs["fexit"])


def test_patterns_match_what_there_is(host, obj) -> None:
    link = host.attach_kprobe_multi(obj.programs["multi"], "bpf_fentry_test?")
    assert link.info()["count"] == 9
    with pytest.raises(KernelError, match="no function that is modelled matches 'no_such"):
        host.attach_kprobe_multi(obj.programs["multi"], "no_such*")


def test_freplace_of_a_named_function(host) -> None:
    targets, other = (host.open(DATA / "targets.bpf.o") for _ in range(2))
    targets.load(only=["xmain"])
    other.programs["rep"].attach_prog_fd = targets.programs["xmain"].fd
    other.load(only=["rep"])
    xmain = targets.programs["xmain"]
    with pytest.raises(InputError, match=r"no function 'sub_h'; did you mean 'sub_[gps]'"):
        host.attach_freplace(other.programs["rep"], xmain, "sub_h")
    for target in ((), (xmain, "sub_g")):
        with host.attach_freplace(other.programs["rep"], *target):
            assert host.bpf.prog_test_run(xmain.fd, bytes(64)).retval == 135
        assert host.bpf.prog_test_run(xmain.fd, bytes(64)).retval == 42


def test_programs_on_records_of_tracepoints(host) -> None:
    fd = host.bpf.prog_load(ProgType.TRACEPOINT, encode(assemble("r0 = 0; exit"))).fd
    link = host.attach_tracepoint(fd, "syscalls", "sys_enter_getpid", label="watch")
    host.syscall(host.spawn("worker"), "getpid")
    assert (link.label, link.runs) == ("watch", 1)
    with pytest.raises(KernelError, match="did you mean 'sched:sched_switch'"):
        host.attach_tracepoint(fd, "sched", "sched_swich")


def test_sections_of_tracepoints(host) -> None:
    obj = host.load(DATA / "tracepoints.bpf.o")
    assert list(obj.attach()) == ["by_tp", "by_tracepoint"]
    host.syscall(host.spawn("worker"), "openat", "/none", 0o101)
    # the idle task went first
    assert (obj.bss["flags"], obj.data["prev_pid"]) == (0o101, 0)
