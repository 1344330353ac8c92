"""Mode bits and capabilities: path_resolution(7), capabilities(7)."""

import pytest
from task_machine import Machine

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1 << 1, 1 << 2


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "caps", "mask", "allowed"),
    [(0o400, 7, 0, 0, 4, True), (0o040, 7, 8, 0, 4, False), (0o040, 9, 8, 0, 4, True), (0o004, 9, 9, 0, 4, True),
     (0o070, 9, 8, 0, 7, True), (0o000, 9, 9, CAP_DAC_OVERRIDE, 6, True), (0o000, 9, 9, CAP_DAC_OVERRIDE, 1, False),
     (0o100, 9, 9, CAP_DAC_OVERRIDE, 1, True), (0o000, 9, 9, CAP_DAC_READ_SEARCH, 4, True),
     (0o000, 9, 9, CAP_DAC_READ_SEARCH, 6, False)],
)  # fmt: skip
def test_permissions(mode: int, uid: int, gid: int, caps: int, mask: int, allowed: bool) -> None:
    machine, answers = Machine(), []
    inode = machine.vfs.add("/tmp/file", b"x", mode=mode, uid=7, gid=8).inode
    assert inode is not None

    def main(task: object, _call: object) -> None:
        cred = task.cred  # type: ignore[attr-defined]
        cred.become(uid, gid)
        cred.cap_effective = caps
        functions = machine.kernel.functions
        answers.append(functions.inode_permission(machine.kernel.cpus[0], 0, inode.address, mask))

    machine.run(main)
    assert answers == [0 if allowed else -13]


def test_capabilities_are_asked_for_by_name() -> None:
    machine, answers = Machine(), []

    def main(task: object, _call: object) -> None:
        cpu, functions = machine.kernel.cpus[0], machine.kernel.functions
        task.cred.cap_effective = 1 << 21  # type: ignore[attr-defined]
        answers.extend([functions.capable(cpu, 21), functions.capable(cpu, 12), functions.ns_capable(cpu, 0, 21)])

    machine.run(main)
    assert answers == [1, 0, 1]
