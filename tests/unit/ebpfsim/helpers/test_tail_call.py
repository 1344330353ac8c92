"""Which program follows; the jumps are in the tests of the interpreter."""

from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.helpers.tail_call import tail_call_target
from ebpfsim.progs.runtime import Run
from ebpfsim.uapi.bpf import MapType


def array(machine: Any, progs: dict[int, Any], kind: MapType = MapType.PROG_ARRAY) -> int:
    machine.maps[64] = SimpleNamespace(attr=SimpleNamespace(map_type=kind, max_entries=4), prog_at=progs.get)
    return 64


def test_targets_are_counted_up_to_the_limit(machine: Any) -> None:
    prog = machine.prog("exit")
    run = Run(machine, prog, 0, machine.cpus[0])
    address = array(machine, {1: prog, 9: prog})
    assert [tail_call_target(run, address, index) for index in (0, 1, 4, 9, 1)] == [None, prog, None, None, prog]
    assert run.tail_calls == 2
    taken = [tail_call_target(run, address, 1) for _ in range(40)]
    # MAX_TAIL_CALL_CNT of include/linux/bpf.h, v6.18
    assert (taken.count(prog), run.tail_calls) == (31, 33)


def test_only_program_arrays_have_targets(machine: Any) -> None:
    run = Run(machine, machine.prog("exit"), 0, machine.cpus[0])
    with pytest.raises(KernelOops, match="tail call through a map of type hash, address 0x40"):
        tail_call_target(run, array(machine, {}, MapType.HASH), 0)
