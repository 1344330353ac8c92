"""Which names /proc has, with which permissions, as Linux 6.18 has them."""

import pytest
from proc_files import ProcTasks

from tracing.proc_nodes import node_at

MODES = {
    "self": 0o120777, "mounts": 0o120777, "uptime": 0o100444, "1": 0o040555, "1/task": 0o040555, "1/fd": 0o040500,
    "1/net": 0o040555, "1/comm": 0o100644, "1/maps": 0o100444, "1/exe": 0o120777, "1/task/1": 0o040555,
    "1/task/1/stat": 0o100444, "1/net/dev": 0o100444, "1/fd/0": 0o120700,
}  # fmt: skip
MISSING = ("nope", "2", "01", "1/nope", "1/task/2", "1/fd/9", "1/fd/00", "1/fd/0/x", "1/net/nope", "uptime/x", "self/x")


@pytest.fixture(scope="module")
def tasks() -> ProcTasks:
    return ProcTasks()


@pytest.mark.parametrize("path", MODES)
def test_modes(tasks: ProcTasks, path: str) -> None:
    node = node_at(tasks.kernel, tasks.kernel.cpus[0], path.split("/"))
    assert node is not None
    assert oct(node.mode) == oct(MODES[path])


@pytest.mark.parametrize("path", MISSING)
def test_what_is_not_there(tasks: ProcTasks, path: str) -> None:
    assert node_at(tasks.kernel, tasks.kernel.cpus[0], path.split("/")) is None
