"""What helpers say of the running task: the rules of include/uapi/linux/bpf.h."""

import pytest

import ebpfsim
from ebpfsim.errnos import Errno
from ebpfsim.progs.runtime import Helper, Run
from ebpfsim.uapi.helper_ids import HELPER_IDS
from tracing.task import Task


class Asked:
    """A task that calls helpers, and what they said."""

    def __init__(self, uid: int = 0, gid: int | None = None, comm: str = "curl") -> None:
        self.host = ebpfsim.Simulation(seed=1).host("h")
        self.uid, self.gid, self.comm = uid, gid, comm
        self.mem = self.host.kernel.mem
        self.buf = self.mem.alloc(64)

    def call(self, name: str, *args: int) -> int:
        helper: Helper = self.host.kernel.helpers[HELPER_IDS[f"bpf_{name}"]]
        answers = []

        def main(task: Task) -> int:
            self.task = task
            run = Run(self.host.kernel, None, 0, self.host.kernel.cpus[0])  # type: ignore[arg-type]
            answers.append(helper(run, *args, *[0] * (5 - len(args))))
            return 0

        self.host.kernel.sched.spawn(self.comm, main, uid=self.uid, gid=self.gid)
        self.host.sim.run()
        return answers[0]


def test_pids_and_ids() -> None:
    asked = Asked(uid=1000, gid=100)
    assert asked.call("get_current_pid_tgid") == 1000 << 32 | 1000
    assert asked.call("get_current_uid_gid") == 100 << 32 | 1000


@pytest.mark.parametrize(
    ("comm", "size", "data"),
    [("curl", 16, b"curl" + bytes(12)), ("a-name-of-16-bytes", 16, b"a-name-of-16-by\0"), ("curl", 3, b"cu\0"),
     ("curl", 20, b"curl" + bytes(16))],
)  # fmt: skip
def test_names_are_cut_and_padded(comm: str, size: int, data: bytes) -> None:
    asked = Asked(comm=comm)
    asked.mem.fill(asked.buf, 64, 0xFF)
    assert asked.call("get_current_comm", asked.buf, size) == 0
    assert asked.mem.read(asked.buf, size + 1) == data + b"\xff"


def test_the_task_is_its_structure() -> None:
    asked = Asked()
    for name in ("get_current_task", "get_current_task_btf"):
        assert asked.call(name) == asked.task.address


def test_pids_of_a_namespace() -> None:
    asked = Asked()
    inum = 4026531836  # ls -i /proc/1/ns/pid
    assert asked.call("get_ns_current_pid_tgid", 4, inum, asked.buf, 8) == 0
    assert asked.mem.read(asked.buf, 8) == (1000).to_bytes(4, "little") * 2
    assert asked.call("get_ns_current_pid_tgid", 4, inum + 1, asked.buf, 8) == -Errno.EINVAL
    assert asked.mem.read(asked.buf, 8) == bytes(8)
    assert asked.call("get_ns_current_pid_tgid", 4, inum, asked.buf, 12) == -Errno.EINVAL


def test_without_a_task_it_is_the_idle_one() -> None:
    kernel = ebpfsim.Simulation(seed=1).host("h", cpus=2).kernel
    run = Run(kernel, None, 0, kernel.cpus[1])  # type: ignore[arg-type]
    assert kernel.helpers[HELPER_IDS["bpf_get_current_pid_tgid"]](run, 0, 0, 0, 0, 0) == 0
    buf = kernel.mem.alloc(16)
    kernel.helpers[HELPER_IDS["bpf_get_current_comm"]](run, buf, 16, 0, 0, 0)
    assert kernel.mem.read(buf, 10) == b"swapper/1\0"
