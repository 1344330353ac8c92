"""Leading callers of a function elsewhere: the same in both engines, and tail calls are not led."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.jit.patch import patch_function
from ebpfsim.uapi.bpf import MapType, ProgType

TEXT = """
    r6 = 5; r1 = 3; r2 = 4; call sub; r0 += r6; exit
    sub: r0 = r1; r0 *= 10; r0 += r2; exit
"""


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def load(host):
    return lambda text: host.fds.lookup(host.bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble(text))).fd)


def run(host, prog) -> int:
    fd = next(fd for fd in range(3, 64) if host.fds.lookup(fd) is prog)
    return host.bpf.prog_test_run(fd, bytes(64)).retval


def test_a_handler_stands_for_a_function_and_may_run_its_body(host, load) -> None:
    prog = load(TEXT)
    start = prog.subprogs[1].start
    seen = []

    def handler(_run, registers, proceed):
        seen.append(registers[:2])
        return proceed() + proceed()

    assert run(host, prog) == 39
    patch_function(prog, start, handler)
    assert run(host, prog) == 73
    assert seen == [(3, 4)]
    patch_function(prog, start, lambda _run, _registers, _proceed: 1)
    assert run(host, prog) == 6
    patch_function(prog, start, None)
    assert run(host, prog) == 39


def test_instructions_and_costs_are_those_of_the_other_engine(make_kernel) -> None:
    counts = []
    for engine in ("jit", "interp"):
        host = make_kernel(engine=engine)
        prog = host.fds.lookup(host.bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble(TEXT))).fd)
        patch_function(prog, prog.subprogs[1].start, lambda _run, _registers, proceed: proceed())
        from ebpfsim.jit.engine import execute

        skb = host.mem.alloc(512)
        ran = execute(prog, skb, host.cpus[0])
        counts.append((ran.retval, ran.insns, ran.cost_ps, host.cpus[0].elapsed_ps))
    assert counts[0] == counts[1]
    assert counts[0][:2] == (39, 10)


def test_tail_calls_enter_behind_the_patched_place(host, load) -> None:
    # as in Linux, where they jump past the five bytes (X86_TAIL_CALL_OFFSET)
    array = host.bpf.map_create(MapType.PROG_ARRAY, 4, 4, 1)
    caller = load(f"r2 = map_fd[{array}]; r3 = 0; call bpf_tail_call; r0 = 9; exit")
    callee = load("r0 = 2; exit")
    fd = next(fd for fd in range(3, 64) if host.fds.lookup(fd) is callee)
    host.bpf.map_update_elem(array, bytes(4), fd.to_bytes(4, "little"))
    patch_function(callee, 0, lambda _run, _registers, _proceed: 77)
    assert run(host, callee) == 77
    assert run(host, caller) == 2


def test_another_program_in_the_place_of_a_function(host, load) -> None:
    prog, other = load(TEXT), load("r0 = 100; exit")
    patch_function(prog, prog.subprogs[1].start, lambda run, registers, _proceed: run.call_prog(other, registers))
    assert run(host, prog) == 105


def test_single_steps_go_where_callers_are_led(host, load) -> None:
    from ebpfsim.vm.step import Stepper

    prog = load(TEXT)
    start = prog.subprogs[1].start
    steps = []
    stepper = Stepper(prog, host, lambda step: steps.append(step.insn_idx))
    patch_function(prog, start, lambda _run, _registers, _proceed: 1)
    with stepper:
        assert run(host, prog) == 6
        assert start not in steps
        # what changes meanwhile is there at once, and afterwards
        patch_function(prog, start, lambda _run, _registers, proceed: proceed() + 1)
        assert run(host, prog) == 40
        assert start in steps
    assert run(host, prog) == 40
    with stepper:
        patch_function(prog, start, None)
        assert run(host, prog) == 39
    assert run(host, prog) == 39
    assert prog.patches == {}


def test_single_steps_do_not_begin_twice(host, load) -> None:
    from ebpfsim.errors import InputError
    from ebpfsim.vm.step import Stepper

    prog = load(TEXT)
    with Stepper(prog, host), pytest.raises(InputError, match="in single steps already"):
        Stepper(prog, host).start()
    with Stepper(prog, host):
        assert run(host, prog) == 39
