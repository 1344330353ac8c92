"""Single steps: what a hook sees, what watches report, and that the run is the one that it would have been."""

from typing import Any

import pytest

from ebpfsim.errors import InternalError, KernelOops
from ebpfsim.vm.step import Step, Stepper

CALLS = "r1 = 3; call f; r0 += 1; exit; f: r0 = r1; r0 *= 2; exit"
CALLBACK = """
    r1 = 2; r2 = subprog[body]; r3 = 0; r4 = 0; call bpf_loop; exit
    body: r0 = 0; exit
"""


def _stepped(machine: Any, code: str) -> tuple[Any, list[str]]:
    seen: list[str] = []
    prog = machine.prog(code)
    stepper = Stepper(prog, machine, lambda step: seen.append(step.text))
    return stepper.run(0, machine.cpus[0]), seen


def test_every_instruction_of_functions_too(machine: Any) -> None:
    run, seen = _stepped(machine, CALLS)
    assert run.r0 == 7
    assert seen == [
        "(b7) r1 = 3", "(85) call pc+2", "(bf) r0 = r1", "(27) r0 *= 2", "(95) exit", "(07) r0 += 1", "(95) exit",
    ]  # fmt: skip


def test_every_instruction_of_callbacks(machine: Any) -> None:
    run, seen = _stepped(machine, CALLBACK)
    assert run.r0 == 2
    assert seen[5:] == ["(b7) r0 = 0", "(95) exit"] * 2 + ["(95) exit"]
    assert len(seen) == run.insns


@pytest.mark.parametrize("code", [CALLS, CALLBACK, "r0 = 10; l: r0 -= 1; if r0 != 0 goto l; exit"])
def test_counts_and_costs_are_those_of_a_run(make_machine: Any, code: str) -> None:
    plain, stepped = make_machine(), make_machine()
    expected = plain.run(code)
    run, _ = _stepped(stepped, code)
    assert (run.r0, run.insns, run.cost_ps) == (expected.r0, expected.insns, expected.cost_ps)
    assert stepped.cpus[0].elapsed_ps == plain.cpus[0].elapsed_ps


def _with_prog_array(machine: Any, target: Any) -> Any:
    from ebpfsim.maps.map import MapAttr
    from ebpfsim.maps.prog_array import ProgArrayMap
    from ebpfsim.uapi.bpf import MapType

    array = ProgArrayMap(MapAttr(MapType.PROG_ARRAY, 4, 4, 2), machine.mem, 1)
    array.put_slot(1, target)
    machine.maps[array.address] = array
    return array


def test_programs_that_a_tail_call_leads_to(make_machine: Any) -> None:
    def caller(machine: Any) -> Any:
        array = _with_prog_array(machine, machine.prog("r0 = 5; r0 += 1; exit", "target"))
        return machine.prog(f"r2 = {array.address:#x} ll; r3 = 1; call bpf_tail_call; r0 = 0; exit", "caller")

    machine, other = make_machine(), make_machine()
    seen: list[str] = []
    run = Stepper(caller(machine), machine, lambda step: seen.append(str(step))).run(0, machine.cpus[0])
    assert seen[3:] == ["target: 0: (b7) r0 = 5", "target: 1: (07) r0 += 1", "target: 2: (95) exit"]
    expected = other.run(caller(other))
    assert (run.r0, run.tail_calls, run.insns) == (6, 1, expected.insns)
    assert run.cost_ps == expected.cost_ps  # direct by the constants of its block, single steps or not


def test_a_program_that_calls_itself_by_tail_call_stays_in_single_steps(machine: Any) -> None:
    array = _with_prog_array(machine, None)
    prog = machine.prog(f"r2 = {array.address:#x} ll; r3 = 1; call bpf_tail_call; r0 = 7; exit")
    array.put_slot(1, prog)
    seen: list[int] = []
    run = Stepper(prog, machine, lambda step: seen.append(step.insn_idx)).run(0, machine.cpus[0])
    assert run.tail_calls == 33  # MAX_TAIL_CALL_CNT
    assert len(seen) == run.insns == 34 * 3 + 2


def test_a_watched_register(machine: Any) -> None:
    stepper = Stepper(machine.prog(CALLS), machine)
    stepper.watch_register(0)
    told: list[str] = []
    stepper.on_change = lambda change: told.append(str(change))
    stepper.run(0, machine.cpus[0])
    assert told == ["test: 4: r0: 0x0 -> 0x3", "test: 5: r0: 0x3 -> 0x6", "test: 2: r0: 0x6 -> 0x7"]
    assert told == [str(change) for change in stepper.changes]


def test_watched_memory(machine: Any) -> None:
    data = machine.mem.alloc(16)
    stepper = Stepper(machine.prog("*(u8 *)(r1 + 1) = 7; *(u8 *)(r1 + 1) = 7; *(u8 *)(r1 + 8) = 1; exit"), machine)
    stepper.watch_memory(data, 4)
    stepper.run(data, machine.cpus[0])
    assert [str(change) for change in stepper.changes] == [f"test: 0: 4 bytes at {data:#x}: 00 00 00 00 -> 00 07 00 00"]


def test_the_last_instruction_and_the_one_that_faults_are_watched_too(machine: Any) -> None:
    data = machine.mem.alloc(8)
    stepper = Stepper(machine.prog("*(u8 *)(r1 + 0) = 1; r0 = *(u8 *)(r2 + 0); exit"), machine)
    stepper.watch_memory(data, 1)
    with pytest.raises(KernelOops):
        stepper.run(data, machine.cpus[0])
    assert [change.insn_idx for change in stepper.changes] == [0]


def test_a_hook_changes_registers_without_being_reported(machine: Any) -> None:
    def hook(step: Step) -> None:
        assert step.registers[10] == machine.cpus[0].stack_top + 512
        if step.insn_idx == 1:
            step.set_register(0, -1)

    stepper = Stepper(machine.prog("r0 = 1; r0 += 1; exit"), machine, hook)
    stepper.watch_register(0)
    assert stepper.run(0, machine.cpus[0]).r0 == 0
    assert [(change.old, change.new) for change in stepper.changes] == [(0, 1), ((1 << 64) - 1, 0)]


def test_a_hook_ends_the_run_by_an_exception(machine: Any) -> None:
    class Enough(Exception):
        pass

    def hook(step: Step) -> None:
        if step.insn_idx == 1:
            raise Enough

    cpu = machine.cpus[0]
    top = cpu.stack_top
    with pytest.raises(Enough):
        Stepper(machine.prog("l: r0 += 1; goto l"), machine, hook).run(0, cpu)
    assert cpu.stack_top == top


def test_running_again_starts_again(machine: Any) -> None:
    stepper = Stepper(machine.prog("r0 = 1; exit"), machine)
    stepper.watch_register(0)
    for _ in range(2):
        stepper.run(0, machine.cpus[0])
        assert len(stepper.changes) == 1


def test_the_plain_program_is_left_alone(machine: Any) -> None:
    prog = machine.prog(CALLS)
    image = prog.image
    Stepper(prog, machine).run(0, machine.cpus[0])
    assert prog.image is image


def test_no_such_register(machine: Any) -> None:
    stepper = Stepper(machine.prog("r0 = 1; exit"), machine)
    with pytest.raises(InternalError):
        stepper.watch_register(11)
    with pytest.raises(KernelOops):
        stepper.watch_memory(16, 8)


@pytest.fixture(params=["interp", "jit"])
def host(request: pytest.FixtureRequest) -> Any:
    import ebpfsim

    return ebpfsim.Simulation(seed=1).host("h", engine=request.param)


def load(host: Any, text: str) -> int:
    from ebpfsim.isa.asm import assemble
    from ebpfsim.isa.insn import encode
    from ebpfsim.uapi.bpf import ProgType

    fd: int = host.bpf.prog_load(ProgType.XDP, encode(assemble(text)), license="GPL", name="p").fd
    return fd


def test_runs_of_others_are_in_single_steps_for_a_while(host: Any) -> None:
    fd = load(host, "r0 = 1; r0 += 1; exit")
    steps: list[str] = []
    stepper = host.step(fd, lambda step: steps.append(step.text))
    stepper.watch_register(0)
    assert host.bpf.prog_test_run(fd, bytes(64)).retval == 2
    assert steps == []
    with stepper:
        assert host.bpf.prog_test_run(fd, bytes(64), repeat=2).retval == 2
        assert host.runner(fd)(bytes(64)) == 2
    assert steps == ["(b7) r0 = 1", "(07) r0 += 1", "(95) exit"] * 3
    # those of the last run
    assert [str(change) for change in stepper.changes] == ["p: 0: r0: 0x0 -> 0x1", "p: 1: r0: 0x1 -> 0x2"]
    assert host.bpf.prog_test_run(fd, bytes(64)).retval == 2
    assert len(steps) == 9


def test_packets_go_through_single_steps(host: Any) -> None:
    from ebpfsim.isa.disasm import disasm

    seen: list[tuple[str, int]] = []
    host.nic("eth0", "10.0.0.1/24")
    prog = host.prog(load(host, "r0 = 1; exit"))
    host.attach_xdp(prog, "eth0")
    with host.step(prog, lambda step: seen.append((disasm(step.prog.insns, step.insn_idx), host.sim.now_ns))):
        for _ in range(2):
            host.device("eth0").receive(bytes(64))
        host.sim.run()
    assert [text for text, _ in seen] == ["(b7) r0 = 1", "(95) exit"] * 2


@pytest.mark.parametrize("index", ["r3 = 0", "r3 = *(u32 *)(r1 + 16); r3 &= 0"])
def test_tail_calls_between_programs_of_any_engine(host: Any, index: str) -> None:
    from ebpfsim.uapi.bpf import MapType

    array = host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1, name="array")
    host.bpf.map_update_elem(array, bytes(4), load(host, "r0 = 3; exit").to_bytes(4, "little"))
    fd = load(host, f"{index}; r2 = map_fd[{array}] ll; call bpf_tail_call; r0 = 2; exit")
    steps: list[str] = []
    with host.step(fd, lambda step: steps.append(step.text)):
        assert host.bpf.prog_test_run(fd, bytes(64)).retval == 3
    assert steps[-2:] == ["(b7) r0 = 3", "(95) exit"]


def test_what_a_hook_raises_ends_the_test_run(host: Any) -> None:
    class Enough(Exception):
        pass

    def hook(step: Step) -> None:
        if step.insn_idx == 1:
            raise Enough

    fd = load(host, "r0 = 1; r0 += 1; exit")
    with host.step(fd, hook), pytest.raises(Enough):
        host.bpf.prog_test_run(fd, bytes(64))
    assert host.bpf.prog_test_run(fd, bytes(64)).retval == 2


def test_others_find_what_the_engine_made_of_a_program_in_single_steps(host: Any) -> None:
    from ebpfsim.uapi.bpf import MapType

    array = host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 2, name="array")
    steps: list[str] = []
    stepped = load(host, "r0 = 0; r1 = 0; l: r0 += 1; if r0 != 3 goto l; exit")
    with host.step(stepped, lambda step: steps.append(step.text)):
        # into the array, and patched into code, while it runs in single steps
        host.bpf.map_update_elem(array, bytes(4), stepped.to_bytes(4, "little"))
        for index in ("r3 = 0", "r3 = *(u32 *)(r1 + 16); r3 &= 0"):
            fd = load(host, f"{index}; r2 = map_fd[{array}] ll; call bpf_tail_call; r0 = 2; exit")
            assert host.bpf.prog_test_run(fd, bytes(64)).retval == 3
    assert host.bpf.prog_test_run(stepped, bytes(64)).retval == 3
