"""Signals, walks over tasks, texts of user space, symbols (kernel/trace/bpf_trace.c, kernel/bpf, v6.18)."""

import struct

import pytest
from task_programs import Lab, code

from ebpfsim.btf.types import Kind
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from tracing.kallsyms import symbol_address

PID = place("task_struct", "pid")[0]


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_a_program_kills_its_task(lab) -> None:
    lab.kprobe("ksys_read", f"r1 = 9; call bpf_send_signal; r7 = r0; {lab.keep(0)}")
    task = lab.host.spawn("t", steps=[{"read": [0, 1]}, "getpid"])
    lab.host.sim.run()
    # SIGKILL is seen on the way out of the call
    assert lab.value(0) == 0
    assert not task.running
    assert len(task.results) <= 1


@pytest.mark.parametrize(("sig", "answer"), [(65, -22), (0, 0)])
def test_signals_that_there_are(lab, sig, answer) -> None:
    lab.kprobe("ksys_read", f"r1 = {sig}; call bpf_send_signal_thread; r7 = r0; {lab.keep(0)}")
    task = lab.host.spawn("t")
    lab.host.syscall(task, "read", 0, 1)
    assert lab.value(0) == answer
    assert task.running


WALK = """
    r1 = r10; r1 += -64; r2 = 0; r3 = {flags}
    {new}
    r8 = 0
    again: r1 = r10; r1 += -64
    kfunc bpf_iter_task_next
    if r0 == 0 goto done
    r1 = *(u32 *)(r0 + {pid})
    r8 += 1
    goto again
    done: r1 = r10; r1 += -64
    kfunc bpf_iter_task_destroy
    r7 = r8
"""


def test_all_processes(lab) -> None:
    others = [lab.host.spawn(f"t{number}") for number in range(3)]
    text = WALK.format(flags=0, pid=PID, new="kfunc bpf_iter_task_new") + "; " + lab.keep(0)
    lab.trace(A.LSM_MAC, "bpf_lsm_file_open", "kfunc bpf_rcu_read_lock; " + text + "; kfunc bpf_rcu_read_unlock", P.LSM)
    lab.host.syscall(others[0], "openat", "/etc/hostname")
    # the idle task, init and three more
    assert lab.value(0) == 5


def test_texts_of_user_space(lab) -> None:
    task = lab.host.spawn("t")
    user = task.task.user
    assert user is not None
    at = user.alloc(8, b"hello")
    copy = "r1 = r10; r1 += -24; r2 = {size}; r3 = {at} ll; r4 = {flags}; kfunc bpf_copy_from_user_str; r7 = r0; "
    text = "".join(
        copy.format(size=size, at=where, flags=flags) + lab.keep(number) + "; "
        for number, (size, where, flags) in enumerate([(8, at, 0), (3, at, 1), (8, 0x1000, 0), (8, at, 2)])
    )
    lab.trace(A.LSM_MAC, "bpf_lsm_file_open", text.rstrip("; "), P.LSM, sleepable=True)
    lab.host.syscall(task, "openat", "/etc/hostname")
    assert [lab.value(key) for key in range(4)] == [6, 3, -14, -22]


SYMBOL = """
    r6 = r1
    *(u64 *)(r10 - 8) = 0
    r1 = {name} ll; *(u64 *)(r10 - 16) = r1
    r1 = r10; r1 += -16; r2 = {size}; r3 = {kind}; r4 = {flags}
    {call}
    exit
"""


def ask(lab: Lab, name: str, call: str, *, kind: int = 0, flags: int = 0, size: int | None = None) -> int:
    number = int.from_bytes(name.encode().ljust(8, b"\0"), "little")
    text = SYMBOL.format(name=number, size=len(name) + 1 if size is None else size, kind=kind, flags=flags, call=call)
    fd = lab.host.bpf.prog_load(P.SYSCALL, code(text), license="GPL", prog_flags=0x10).fd
    retval = lab.host.bpf.prog_test_run(fd, repeat=0).retval
    return retval - (1 << 32) if retval >> 31 else retval


def test_types_by_their_names(lab) -> None:
    call = "call bpf_btf_find_by_name_kind"
    assert ask(lab, "file", call, kind=Kind.STRUCT) == vmlinux().find("file", Kind.STRUCT)
    assert ask(lab, "file", call, kind=Kind.FUNC) == -2
    assert ask(lab, "file", call, kind=77) == -2
    assert ask(lab, "file", call, kind=Kind.STRUCT, flags=1) == -22
    # the name must end in a NUL
    assert ask(lab, "file", call, kind=Kind.STRUCT, size=4) == -22


def test_addresses_of_symbols(lab) -> None:
    call = "r4 = r10; r4 += -8; r3 = 0; call bpf_kallsyms_lookup_name; r0 = *(u32 *)(r10 - 8)"
    assert ask(lab, "fput", call) & 0xFFFF_FFFF == symbol_address("fput") & 0xFFFF_FFFF
    assert ask(lab, "nothing", call) == 0


def test_sessions_know_where_they_are(lab) -> None:
    text = (
        f"kfunc bpf_session_is_return; r7 = r0; if r7 != 0 goto back; {lab.keep(0)}; r0 = 0; exit; back: {lab.keep(1)}"
    )
    fd = lab.host.bpf.prog_load(
        P.KPROBE, code(text + "; r0 = 0; exit"), license="GPL", expected_attach_type=A.TRACE_KPROBE_SESSION
    ).fd
    lab.host.bpf.map_update_elem(lab.map, struct.pack("<I", 0), struct.pack("<q", 9))
    lab.host.attach_kprobe_multi(fd, ["ksys_read"])
    lab.host.syscall(lab.host.spawn("t"), "read", 0, 1)
    assert (lab.value(0), lab.value(1)) == (0, 1)
