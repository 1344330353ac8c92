"""Helpers about the traced function on a context made by hand; on real trampolines they are in tests/facts."""

from types import SimpleNamespace

from ebpfsim.helpers.trampoline import (
    COOKIE,
    get_attach_cookie,
    get_func_arg,
    get_func_arg_cnt,
    get_func_ip,
    get_func_ret,
)
from ebpfsim.memory import Memory
from ebpfsim.uapi.bpf import AttachType, ProgType


def run_of(kind: AttachType = AttachType.TRACE_FENTRY, prog_type: ProgType = ProgType.TRACING):
    mem = Memory(1 << 26)
    base = mem.alloc(64)
    for number, value in enumerate((0xFFFF_FFFF_8100_0000, 2, 7, 8, 9)):
        mem.store(base + 8 * number, 8, value)
    prog = SimpleNamespace(expected_attach_type=kind, type=prog_type)
    return SimpleNamespace(mem=mem, prog=prog, cpu=SimpleNamespace(scratch={})), base + 16, base + 56


def test_words_in_front_of_the_context() -> None:
    run, ctx, value = run_of()
    assert get_func_arg_cnt(run, ctx, 0, 0, 0, 0) == 2
    assert get_func_ip(run, ctx, 0, 0, 0, 0) == 0xFFFF_FFFF_8100_0000
    assert get_func_arg(run, ctx, 1, value, 0, 0) == 0
    assert run.mem.load(value, 8) == 8
    assert get_func_arg(run, ctx, 2, value, 0, 0) == -22
    assert get_func_arg(run, ctx, 1 << 32, value, 0, 0) == 0  # n is a u32


def test_the_result_is_there_once_the_function_has_returned() -> None:
    run, ctx, value = run_of(AttachType.TRACE_FEXIT)
    assert get_func_ret(run, ctx, value, 0, 0, 0) == 0
    assert run.mem.load(value, 8) == 9
    run, ctx, value = run_of()
    assert get_func_ret(run, ctx, value, 0, 0, 0) == -95


def test_cookies_and_addresses_of_probes_come_from_the_cpu() -> None:
    run, ctx, _ = run_of(prog_type=ProgType.KPROBE)
    assert get_attach_cookie(run, ctx, 0, 0, 0, 0) == get_func_ip(run, ctx, 0, 0, 0, 0) == 0
    run.cpu.scratch[COOKIE] = 99
    assert get_attach_cookie(run, ctx, 0, 0, 0, 0) == 99
