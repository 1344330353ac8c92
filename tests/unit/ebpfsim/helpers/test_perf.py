"""Events that programs may not write to (__bpf_perf_event_output(), v6.18); the rest is in test_perf_buffer."""

import pytest

from ebpfsim.helpers.perf import perf_event_output
from ebpfsim.maps.map import MapAttr
from ebpfsim.maps.perf_event import PerfEvent
from ebpfsim.maps.types import create_map
from ebpfsim.progs.runtime import Run
from ebpfsim.uapi.bpf import MapType, ProgType

CURRENT = 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("type_", "config", "cpu", "result"),
    [(1, 10, 0, 0), (1, 9, 0, -22), (0, 10, 0, -22), (1, 10, 1, -95)],
)
def test_only_outputs_of_this_cpu_are_written_to(make_machine, type_, config, cpu, result) -> None:
    machine = make_machine(cpus=2)
    map_ = create_map(MapAttr(MapType.PERF_EVENT_ARRAY, 4, 4, 2), machine.mem, 2)
    machine.maps[map_.address] = map_
    event = PerfEvent(machine.mem, cpu, type_, config)
    event.map_ring(1)
    map_.put_slot(0, event)
    prog = machine.prog("exit")
    prog.type = ProgType.KPROBE
    run = Run(machine, prog, 0, machine.cpus[0])
    assert perf_event_output(run, 0, map_.address, CURRENT, machine.mem.alloc(8), 8) == result
    assert [len(data) for _, data in event.consume()] == ([16] if not result else [])
    # programs that see no packet cannot ask for part of one
    assert perf_event_output(run, 0, map_.address, 1 << 32 | CURRENT, machine.mem.alloc(8), 8) == -22
