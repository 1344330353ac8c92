"""Facts about programs of type tracepoint, observed on Linux 6.12; a live kernel is not asked."""

import pytest

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P


@pytest.fixture(params=["jit", "interp"])
def host(request):
    return Simulation(seed=1).host("h", cpus=1, engine=request.param)


@pytest.fixture
def load(host):
    def load(name: str = "", code: str = "r0 = 0; exit", prog_type: P = P.TRACEPOINT, **attributes) -> int:
        return host.bpf.prog_load(prog_type, encode(assemble(code)), name=name, **attributes).fd

    return load


@pytest.fixture
def tp(host, load):
    def tp(name: str, event: str):
        return host.attach_tracepoint(load(name), *event.split(":"))

    return tp


@pytest.fixture
def raw(host, load):
    def raw(name: str, tracepoint: str):
        return host.attach_raw_tp(load(name, prog_type=P.RAW_TRACEPOINT), tracepoint)

    return raw


@pytest.fixture
def order(host):
    task = host.spawn("worker")

    def order() -> str:
        host.kernel.recorder.runs.clear()
        host.syscall(task, "getpgid", 0)
        return " ".join(run.prog for run in host.kernel.recorder.runs)

    return order


def test_one_perf_slot_then_raw_tp_and_tp_btf(host, load, tp, raw, order) -> None:
    tp("a", "raw_syscalls:sys_enter")
    raw("b", "sys_enter")
    btf_id = vmlinux().find("btf_trace_sys_enter", Kind.TYPEDEF)
    tp_btf = load("c", prog_type=P.TRACING, expected_attach_type=A.TRACE_RAW_TP, attach_btf_id=btf_id)
    host.bpf.link_create(tp_btf, 0, A.TRACE_RAW_TP)
    tp("d", "raw_syscalls:sys_enter")
    raw("e", "sys_enter")
    assert order() == "a d b c e"


def test_getpgid_with_everything_attached(host, load, tp, raw, order) -> None:
    raw("r", "sys_enter")
    tp("w", "raw_syscalls:sys_enter")
    tp("s", "syscalls:sys_enter_getpgid")
    host.attach_kprobe(load("k", prog_type=P.KPROBE), "do_getpgid")
    raw("R", "sys_exit")
    tp("S", "syscalls:sys_exit_getpgid")
    tp("W", "raw_syscalls:sys_exit")
    assert order() == "r w s k R S W"


def test_the_slot_goes_with_the_last_event_and_comes_back_behind(tp, raw, order) -> None:
    first = tp("a", "raw_syscalls:sys_enter")
    raw("b", "sys_enter")
    assert order() == "a b"
    first.close()
    tp("c", "raw_syscalls:sys_enter")
    assert order() == "b c"


# the first byte of the record that SET_BPF refuses, though the program loads
FAR = {
    "sched:sched_switch": 64, "syscalls:sys_enter_openat": 48, "syscalls:sys_enter_getpid": 12,
    "sched:sched_process_exec": 20, "raw_syscalls:sys_enter": 64, "syscalls:sys_exit_openat": 24,
    "task:task_rename": 46,
}  # fmt: skip


@pytest.mark.parametrize(("event", "off"), FAR.items())
def test_reading_past_the_record_eacces(host, load, refused, event: str, off: int) -> None:
    host.attach_tracepoint(load(code=f"r0 = *(u8 *)(r1 + {off - 1}); r0 = 0; exit"), *event.split(":"))
    far = load(code=f"r0 = *(u8 *)(r1 + {off}); r0 = 0; exit")
    assert refused(host.attach_tracepoint, far, *event.split(":")) == "EACCES"


def test_sixty_four_programs_then_e2big(host, load, refused) -> None:
    for _ in range(64):
        host.attach_tracepoint(load(), "sched", "sched_process_exec")
    assert refused(host.attach_tracepoint, load(), "sched", "sched_process_exec") == "E2BIG"


def test_programs_and_events_that_do_not_fit(host, load, refused) -> None:
    events = host.kernel.perf_tracepoints
    fds = [host.kernel.fds.install(events.open("sched", "sched_switch")) for _ in range(2)]
    fd = load()
    assert refused(host.bpf.link_create, load(prog_type=P.KPROBE), fds[0], A.PERF_EVENT) == "EINVAL"
    host.bpf.link_create(fd, fds[0], A.PERF_EVENT)
    # another program on the event, the same program on another event
    assert refused(host.bpf.link_create, load(), fds[0], A.PERF_EVENT) == "EEXIST"
    assert refused(host.bpf.link_create, fd, fds[1], A.PERF_EVENT) == "EEXIST"
    kprobe = host.kernel.fds.install(host.kernel.kprobes.open("bpf_fentry_test1"))
    assert refused(host.bpf.link_create, load(), kprobe, A.PERF_EVENT) == "EINVAL"


def test_link_info(host, tp) -> None:
    info = host.bpf.obj_get_info_by_fd(tp("a", "syscalls:sys_enter_openat").fd).details
    assert (info["type"], info["perf_event_type"], info["tp_name"]) == (7, 5, "sys_enter_openat")
    assert info["name_len"] == len("sys_enter_openat") + 1


# what stands before the time on lines of a task, by the hook: (how to attach, flags)
FLAGS = {"tp": "...21", "raw": "...2.", "kprobe": "...21", "kprobe.multi": "...2.", "fentry": "...11"}


def test_lines_of_the_trace_pipe_name_the_task(host, load) -> None:
    text = "*(u32 *)(r10 - 8) = {}; r1 = r10; r1 += -8; r2 = 4; call bpf_trace_printk; r0 = 0; exit"
    codes = {name: text.format(ord(name[-1])) for name in FLAGS}
    host.attach_tracepoint(load(code=codes["tp"], license="GPL"), "syscalls", "sys_enter_getpgid")
    host.attach_raw_tp(load(code=codes["raw"], license="GPL", prog_type=P.RAW_TRACEPOINT), "sys_enter")
    host.attach_kprobe(load(code=codes["kprobe"], license="GPL", prog_type=P.KPROBE), "do_getpgid")
    multi = {"prog_type": P.KPROBE, "expected_attach_type": A.TRACE_KPROBE_MULTI, "license": "GPL"}
    host.attach_kprobe_multi(load(code=codes["kprobe.multi"], **multi), ["do_getpgid"])
    btf_id = vmlinux().by_name("do_getpgid", Kind.FUNC)
    fentry = {"prog_type": P.TRACING, "expected_attach_type": A.TRACE_FENTRY, "attach_btf_id": btf_id, "license": "GPL"}
    host.attach_fentry(load(code=codes["fentry"], **fentry))
    task = host.spawn("worker")
    host.syscall(task, "getpgid", 0)
    lines = host.kernel.trace_pipe.read().splitlines()
    assert {line[:24] for line in lines} == {f"          worker-{task.pid:<7d}"}
    flags = {line[-1]: line[31:36] for line in lines}
    assert flags == {name[-1]: wanted for name, wanted in FLAGS.items()}
