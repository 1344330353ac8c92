"""Stacks of the kernel and of user space (kernel/bpf/stackmap.c, v6.18).

Which functions are on a stack, and where it begins for each kind of program, is what Linux 6.12 showed for the same
hooks (functions that neither this model nor the BTF has left out).
"""

import struct

import pytest

import ebpfsim
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.bpf import ProgType as P
from ebpfsim.uapi.flags import BPF_F_FAST_STACK_CMP, BPF_F_REUSE_STACKID, BPF_F_STACK_BUILD_ID
from tracing.frames import FRAMES
from tracing.kallsyms import Kallsyms, has_symbol, symbol_address
from tracing.stack import task_stack
from tracing.task import USER_IP

# writes the answer and the stack, the first time that the task does it
TEXT = """
    r6 = r1
    call bpf_get_current_pid_tgid
    r0 >>= 32
    if r0 != {pid} goto out
    *(u32 *)(r10 - 4) = 0
    r1 = map_fd[{map}] ll; r2 = r10; r2 += -4; call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0
    r1 = *(u64 *)(r7 + 0)
    if r1 != 0 goto out
    *(u64 *)(r7 + 0) = 1
    {call}
    *(u64 *)(r7 + 8) = r0
    out: r0 = 0
    exit
"""
GET_STACK = "r1 = r6; r2 = r7; r2 += 16; r3 = {size}; r4 = {flags}; call bpf_get_stack"
OWN_STACK = (
    "call bpf_get_current_task_btf; r1 = r0; r2 = r7; r2 += 16; r3 = {size}; r4 = {flags}; call bpf_get_task_stack"
)
SYSCALL = ["do_syscall_64", "entry_SYSCALL_64_after_hwframe"]
PROG = "bpf_prog"
PREFIX = {"lsm": "bpf_lsm_", "tp_btf": "btf_trace_"}
KINDS = {
    "fentry": (P.TRACING, A.TRACE_FENTRY),
    "fexit": (P.TRACING, A.TRACE_FEXIT),
    "lsm": (P.LSM, A.LSM_MAC),
    "tp_btf": (P.TRACING, A.TRACE_RAW_TP),
}


class Lab:
    def __init__(self) -> None:
        self.sim = ebpfsim.Simulation(seed=1)
        self.host = self.sim.host("h")
        self.task = self.host.spawn("a")
        self.map = self.host.bpf.map_create(MapType.ARRAY, 4, 1024, 1)

    def attach(self, kind: str, target: str, call: str = GET_STACK, pid: int | None = None, **options: int) -> None:
        options = {"size": 800, "flags": 0} | options
        text = TEXT.format(map=self.map, pid=self.task.pid if pid is None else pid, call=call.format(**options))
        host, code = self.host, encode(assemble(text))
        if kind in KINDS:
            type_, attach = KINDS[kind]
            found = vmlinux().find(PREFIX.get(kind, "") + target, Kind.TYPEDEF if kind == "tp_btf" else Kind.FUNC)
            fd = host.bpf.prog_load(
                type_, code, name="prog", license="GPL", expected_attach_type=attach, attach_btf_id=found or 0
            ).fd
            {"fentry": host.attach_fentry, "fexit": host.attach_fexit, "lsm": host.attach_lsm}.get(
                kind, host.attach_raw_tp
            )(fd)
        elif kind == "tracepoint":
            host.attach_tracepoint(self.load(P.TRACEPOINT, code), *target.split(":"))
        elif kind == "raw_tp":
            host.attach_raw_tp(self.load(P.RAW_TRACEPOINT, code), target)
        else:
            attach_probe = host.attach_kprobe if kind == "kprobe" else host.attach_kretprobe
            attach_probe(self.load(P.KPROBE, code), target)

    def load(self, type_: P, code: bytes) -> int:
        return self.host.bpf.prog_load(type_, code, name="prog", license="GPL").fd

    def answer(self) -> tuple[int, list[int]]:
        seen, ret = struct.unpack_from("<Qq", value := self.host.bpf.map_lookup_elem(self.map, bytes(4)))
        assert seen
        return ret, list(struct.unpack_from(f"<{max(ret, 0) // 8}Q", value, 16))

    def names(self) -> list[str]:
        symbols = Kallsyms(self.host.kernel)
        return [symbols.name_of(address).partition("+")[0] for address in self.answer()[1]]


@pytest.fixture
def lab() -> Lab:
    return Lab()


def short(names: list[str]) -> list[str]:
    """Return names without tags and keys."""
    return ["_".join(name.split("_")[:2]) if name.startswith(("bpf_prog", "bpf_tramp")) else name for name in names]


OPEN = ["do_sys_openat2", "__x64_sys_openat", *SYSCALL]
WAY = ["do_dentry_open", "vfs_open"]


@pytest.mark.parametrize(
    ("kind", "target", "first"),
    [
        ("fentry", "do_sys_openat2", [PROG, "bpf_trampoline", *OPEN]),
        ("fexit", "do_sys_openat2", [PROG, "bpf_trampoline", *OPEN]),
        ("kprobe", "do_sys_openat2", OPEN),
        ("kretprobe", "do_sys_openat2", OPEN[1:]),
        ("tp_btf", "sys_enter", [PROG, "bpf_trace_run2", "syscall_trace_enter", *SYSCALL]),
        ("raw_tp", "sys_enter", [PROG, "bpf_trace_run2", "syscall_trace_enter", *SYSCALL]),
        ("tracepoint", "syscalls:sys_enter_openat", ["perf_syscall_enter", "syscall_trace_enter", *SYSCALL]),
        ("tracepoint", "raw_syscalls:sys_enter", ["syscall_trace_enter", *SYSCALL]),
    ],
)
def test_where_stacks_begin(lab, kind, target, first) -> None:
    lab.attach(kind, target)
    lab.host.syscall(lab.task, "openat", "/etc/hostname")
    assert short(lab.names()) == first


def test_deep_in_the_kernel(lab) -> None:
    lab.attach("lsm", "file_open")
    lab.host.syscall(lab.task, "openat", "/etc/hostname")
    names = short(lab.names())
    assert names[:4] == [PROG, "bpf_trampoline", "bpf_lsm_file_open", "security_file_open"]
    assert [name for name in names if name in (*WAY, *OPEN)] == [*WAY, *OPEN]


def test_who_goes_to_sleep(lab) -> None:
    lab.attach("tp_btf", "sched_switch")
    lab.host.syscall(lab.task, "nanosleep", struct.pack("<QQ", 0, 1000), 0)
    names = short(lab.names())
    assert names[:4] == [PROG, "bpf_trace_run4", "__schedule", "schedule"]
    assert names[-4:] == ["hrtimer_nanosleep", "__x64_sys_nanosleep", *SYSCALL]


def test_interrupts_of_an_idle_cpu(lab) -> None:
    lab.attach("tp_btf", "hrtimer_expire_entry", pid=0)
    lab.host.syscall(lab.task, "nanosleep", struct.pack("<QQ", 0, 1000), 0)
    interrupt = ["__sysvec_apic_timer_interrupt", "sysvec_apic_timer_interrupt", "asm_sysvec_apic_timer_interrupt"]
    assert short(lab.names()) == [
        *(PROG, "bpf_trace_run2", "__hrtimer_run_queues", "hrtimer_interrupt", *interrupt),
        *("pv_native_safe_halt", "default_idle", "default_idle_call", "do_idle", "cpu_startup_entry"),
        *("rest_init", "start_kernel", "x86_64_start_reservations", "x86_64_start_kernel", "common_startup_64"),
    ]


def test_the_idle_task_gives_up_its_cpu(lab) -> None:
    lab.attach("tp_btf", "sched_switch", pid=0)
    lab.host.syscall(lab.task, "getpid")
    names = short(lab.names())
    assert names[2:6] == ["__schedule", "schedule_idle", "do_idle", "cpu_startup_entry"]
    assert names[-1] == "common_startup_64"


def test_how_a_task_ends(lab) -> None:
    lab.attach("tp_btf", "sched_process_exit")
    lab.task.exit()
    lab.sim.run()
    assert short(lab.names()) == [
        PROG, "bpf_trace_run2", "do_exit", "do_group_exit", "__x64_sys_exit_group", *SYSCALL,
    ]  # fmt: skip


# as Linux 6.12 answered for a kprobe on vfs_read(), whose stack has five addresses here
@pytest.mark.parametrize(
    ("options", "ret"),
    [
        ({"flags": 3}, 16), ({"flags": 5}, 0), ({"flags": 6}, -14), ({"flags": 200}, -14), ({"size": 24}, 24),
        ({"size": 20}, -22), ({"size": 0}, 0), ({"flags": 0x200}, -22), ({"flags": 0x800}, -22),
        ({"flags": 0x900, "size": 320}, 32), ({"flags": 0x900, "size": 40}, -22), ({"flags": 0x1000}, -22),
    ],
)  # fmt: skip
def test_flags_of_bpf_get_stack(lab, options, ret) -> None:
    lab.attach("kprobe", "vfs_read", **options)
    lab.host.syscall(lab.task, "read", 0, 10)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.host.syscall(lab.task, "read", fd, 10)
    # vfs_read, ksys_read, then two of the entry
    assert lab.answer()[0] == ret


def test_user_space_by_its_frame_pointers(lab) -> None:
    lab.attach("kprobe", "vfs_read", flags=0x100)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.task.task.declare_stack([0x40_1234, 0x40_2345, 0x40_3456])
    lab.host.syscall(lab.task, "read", fd, 10)
    assert lab.answer() == (24, [0x40_1234, 0x40_2345, 0x40_3456])


def test_stacks_that_tasks_are_started_with(lab) -> None:
    task = lab.host.spawn("b", stack=[0x40_1000, 0x40_2000])
    lab.attach("kprobe", "ksys_read", flags=0x100, pid=task.pid)
    lab.host.syscall(task, "read", 0, 1)
    assert lab.answer() == (16, [0x40_1000, 0x40_2000])


@pytest.mark.parametrize(("flags", "kernel"), [(0x100, False), (0, True)])
def test_probes_of_user_space(lab, flags, kernel) -> None:
    # the registers are those of user space, and nothing is in the kernel
    lab.host.user_binary("/usr/bin/app", ["work"])
    text = TEXT.format(map=lab.map, pid=lab.task.pid, call=GET_STACK.format(size=800, flags=flags))
    lab.host.attach_uprobe(lab.load(P.KPROBE, encode(assemble(text))), "/usr/bin/app", "work")
    lab.host.syscall(lab.task, "call", "/usr/bin/app:work")
    binary = lab.host.kernel.uprobes.binaries["/usr/bin/app"]
    start = binary.base + binary.functions["work"].offset
    assert lab.answer() == ((0, []) if kernel else (8, [start]))


def test_user_space_without_frame_pointers(lab) -> None:
    lab.attach("kprobe", "vfs_read", flags=0x100)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.host.syscall(lab.task, "read", fd, 10)
    assert lab.answer() == (8, [USER_IP])


def test_build_ids_are_addresses(lab) -> None:
    lab.attach("kprobe", "vfs_read", flags=0x900, size=64)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.host.syscall(lab.task, "read", fd, 10)
    value = lab.host.bpf.map_lookup_elem(lab.map, bytes(4))
    # status BPF_STACK_BUILD_ID_IP
    assert struct.unpack_from("<q i20sQ", value, 8) == (32, 2, bytes(20), USER_IP)


def test_the_stack_of_a_task_that_sleeps(lab) -> None:
    sleeper = lab.host.spawn("sleeper", steps=[{"sleep": "1ms"}])
    lab.sim.run(until=100_000)
    kernel = lab.host.kernel
    symbols = Kallsyms(kernel)
    names = [symbols.name_of(at).partition("+")[0] for at in task_stack(kernel, sleeper.task, kernel.cpus[0])]
    assert names[:2] == ["__schedule", "schedule"]
    assert names[-3:] == ["__x64_sys_clock_nanosleep", *SYSCALL]


def test_the_helper_for_tasks(lab) -> None:
    lab.attach("fentry", "vfs_read", OWN_STACK, flags=0x100)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.host.syscall(lab.task, "read", fd, 10)
    assert lab.answer() == (8, [USER_IP])


STACKID = "r1 = r6; r2 = map_fd[{stacks}] ll; r3 = {flags}; call bpf_get_stackid"


def stackid(flags: int, *, value_size: int = 64, map_flags: int = 0) -> tuple[Lab, int, int]:
    lab = Lab()
    stacks = lab.host.bpf.map_create(MapType.STACK_TRACE, 4, value_size, 16, map_flags=map_flags)
    lab.attach("kprobe", "vfs_read", STACKID, stacks=stacks, flags=flags)
    fd = lab.host.syscall(lab.task, "openat", "/etc/hostname")
    lab.host.syscall(lab.task, "read", fd, 10)
    value = lab.host.bpf.map_lookup_elem(lab.map, bytes(4))
    return lab, stacks, struct.unpack_from("<q", value, 8)[0]


@pytest.mark.parametrize(
    ("flags", "errno"),
    [
        (0, 0), (4, 0), (5, 14), (0x800, 22), (0x100, 0), (0x101, 14),
        (BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID, 0),
    ],
)  # fmt: skip
def test_flags_of_bpf_get_stackid(flags, errno) -> None:
    _, _, number = stackid(flags)
    assert number == -errno if errno else number >= 0


def test_a_stack_by_its_id() -> None:
    lab, stacks, number = stackid(0)
    symbols = Kallsyms(lab.host.kernel)
    addresses = struct.unpack("<8Q", lab.host.bpf.map_lookup_elem(stacks, struct.pack("<I", number)))
    assert [symbols.name_of(address).partition("+")[0] for address in addresses[:4]] == [
        "vfs_read", "ksys_read", "__x64_sys_read", "do_syscall_64",
    ][: len(addresses)]  # fmt: skip
    assert addresses[0] == symbol_address("vfs_read") + 1


def test_a_stack_of_build_ids() -> None:
    lab, stacks, number = stackid(0x100, map_flags=BPF_F_STACK_BUILD_ID)
    value = lab.host.bpf.map_lookup_elem(stacks, struct.pack("<I", number))
    assert struct.unpack("<i20sQ", value[:32]) == (2, bytes(20), USER_IP)


def test_names_have_addresses(lab) -> None:
    # where several functions of the kernel stand for one Python function, all are there
    for names in FRAMES.values():
        assert len(names) == 1 or all(has_symbol(name) for name in names)
    missing = {names[0] for names in FRAMES.values() if not has_symbol(names[0])}
    assert len(missing) <= 3
