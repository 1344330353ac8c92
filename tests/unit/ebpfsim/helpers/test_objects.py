"""Objects with a copy for each CPU; others are compared with Linux' in tests/objects (trees)."""

import pytest

from ebpfsim.errors import InternalError
from ebpfsim.helpers import objects
from ebpfsim.maps.fields import ObjectType
from ebpfsim.progs.runtime import Run


@pytest.fixture
def run(make_machine, monkeypatch) -> Run:
    machine = make_machine(cpus=3)
    monkeypatch.setattr(objects, "object_type", lambda _run, _type_id: ObjectType(12, ()))
    return Run(machine, machine.prog("exit"), 0, machine.cpus[2])


def test_each_cpu_has_its_copy(run) -> None:
    before = run.mem.allocated_bytes
    made = objects.bpf_percpu_obj_new(run, 1, 0, 0, 0, 0)
    assert [objects.bpf_per_cpu_ptr(run, made, cpu, 0, 0, 0) - made for cpu in range(3)] == [0, 16, 32]
    assert objects.bpf_per_cpu_ptr(run, made, 3, 0, 0, 0) == 0
    assert objects.bpf_this_cpu_ptr(run, made, 0, 0, 0, 0) == made + 32
    objects.bpf_percpu_obj_drop(run, made, 0, 0, 0, 0)
    for _ in range(256):
        run.mem.free_rcu(run.mem.alloc(8))
    assert run.mem.allocated_bytes == before + 256 * 8


def test_pointers_change_places(run) -> None:
    place = run.mem.alloc(8)
    assert objects.bpf_kptr_xchg(run, place, 0x1234, 0, 0, 0) == 0
    assert objects.bpf_kptr_xchg(run, place, 0, 0, 0, 0) == 0x1234
    assert run.mem.load(place, 8) == 0


def test_a_program_without_btf_has_no_objects(machine) -> None:
    run = Run(machine, machine.prog("exit"), 0, machine.cpus[0])
    with pytest.raises(InternalError, match="no BTF"):
        objects.bpf_obj_new(run, 1, 0, 0, 0, 0)
