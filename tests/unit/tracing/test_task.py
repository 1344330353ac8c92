"""Tasks in RAM: what CO-RE programs walk to is where the BTF of Linux 6.18 has it."""

import pytest

from ebpfsim.btf.view import place
from ebpfsim.memory import Memory
from tracing.task import CAP_ALL, Namespaces, Task


@pytest.fixture
def mem() -> Memory:
    return Memory()


@pytest.fixture
def tasks(mem: Memory) -> tuple[Task, Task, Task]:
    spaces = Namespaces(mem)
    init = Task(mem, spaces, 1, "init", None, None)
    process = Task(mem, spaces, 1000, "curl", init, None)
    return init, process, Task(mem, spaces, 1001, "resolver", init, process)


def walk(mem: Memory, address: int, *path: tuple[str, str]) -> int:
    """Follow pointers; the last member is a number of its own size."""
    for number, (struct, member) in enumerate(path):
        offset, size = place(struct, member)
        value = mem.load(address + offset, size)
        if number == len(path) - 1:
            return value
        address = value
    raise AssertionError("no path")


def test_parents_and_leaders(mem: Memory, tasks: tuple[Task, Task, Task]) -> None:
    init, process, thread = tasks
    assert walk(mem, process.address, ("task_struct", "real_parent"), ("task_struct", "tgid")) == 1
    assert walk(mem, thread.address, ("task_struct", "group_leader"), ("task_struct", "pid")) == 1000
    assert walk(mem, thread.address, ("task_struct", "tgid")) == 1000
    assert thread.pid_tgid == 1000 << 32 | 1001
    assert init.parent is init


def test_namespaces_have_the_numbers_of_linux(mem: Memory, tasks: tuple[Task, Task, Task]) -> None:
    # ls -l /proc/1/ns on Linux 6.18
    numbers = {"mnt_ns": ("mnt_namespace", 4026531832), "net_ns": ("net", 4026531833),
               "cgroup_ns": ("cgroup_namespace", 4026531835), "uts_ns": ("uts_namespace", 4026531838),
               "ipc_ns": ("ipc_namespace", 4026531839)}  # fmt: skip
    for name, (struct, inum) in numbers.items():
        path = ("task_struct", "nsproxy"), ("nsproxy", name), (struct, "ns.inum")
        assert walk(mem, tasks[1].address, *path) == inum
    pid = walk(mem, tasks[1].address, ("task_struct", "thread_pid"))
    assert walk(mem, pid, ("pid", "numbers[0].nr")) == 1000
    assert walk(mem, pid, ("pid", "numbers[0].ns"), ("pid_namespace", "ns.inum")) == 4026531836


def test_ids_and_capabilities(mem: Memory, tasks: tuple[Task, Task, Task]) -> None:
    _, process, _ = tasks
    path = ("task_struct", "cred"), ("cred", "uid.val")
    assert walk(mem, process.address, *path) == 0
    assert process.cred.cap_effective == CAP_ALL == 0x1FF_FFFF_FFFF  # CapEff of /proc/1/status
    process.cred.become(1000, 100)
    assert walk(mem, process.address, *path) == 1000
    assert walk(mem, process.address, ("task_struct", "real_cred"), ("cred", "egid.val")) == 100
    assert process.cred.cap_effective == 0


def test_threads_share_their_process(mem: Memory, tasks: tuple[Task, Task, Task]) -> None:
    _, process, thread = tasks
    mm = process.new_mm(["curl", "-s"], ["HOME=/"])
    thread.share_mm(process)
    assert process.user is thread.user
    assert process.user is not None
    assert process.user.read(mm.arg_start, mm.arg_end - mm.arg_start) == b"curl\0-s\0"
    assert process.user.read(mm.env_start, mm.env_end - mm.env_start) == b"HOME=/\0"
    assert walk(mem, thread.address, ("task_struct", "signal"), ("signal_struct", "nr_threads")) == 2
    assert walk(mem, thread.address, ("task_struct", "mm"), ("mm_struct", "mm_users.counter")) == 2


def test_released_tasks_leave_nothing(mem: Memory) -> None:
    spaces = Namespaces(mem)
    before = mem.allocated_bytes
    process = Task(mem, spaces, 1000, "a", None, None)
    process.new_mm(["a"])
    thread = Task(mem, spaces, 1001, "b", None, process)
    thread.share_mm(process)
    assert mem.allocated_bytes > before
    thread.release()
    process.release()
    assert mem.allocated_bytes == before
