"""What a task without CAP_PERFMON is refused, word for word as Linux 6.18 refused it, and what masks its additions."""

from typing import Any

import pytest
from few_capabilities import ask_in_child, drop_others

from ebpfsim import Simulation
from ebpfsim.errors import KernelError, VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

CAPS = ("CAP_BPF", "CAP_NET_ADMIN")
LOOKUP = (
    "r2 = r10; r2 += -4; *(u32 *)(r10 - 4) = 0; r1 = map[values] ll; call bpf_map_lookup_elem; if r0 == 0 goto out; "
)
END = "r0 = 0; out: exit"
NUMBER = "r6 = r0; call bpf_get_prandom_u32; r0 &= 7; "
RANGE = "R6 pointer arithmetic of map value goes out of range, prohibited for !root"
# programs, and the reason or nothing
PROGRAMS = {
    "a pointer is returned": ("r0 = r1; exit", "R0 leaks addr as return value"),
    "a pointer is compared": ("r0 = 0; if r1 == r10 goto +0; exit", "R10 pointer comparison prohibited"),
    "a pointer is compared with a number": ("r0 = 0; if r1 == 7 goto +0; exit", "R1 pointer comparison prohibited"),
    "half a pointer": ("w0 = w1; exit", "R1 partial copy of pointer"),
    "a pointer is negated": ("r1 = -r1; r0 = 0; exit", "R1 pointer arithmetic prohibited"),
    "a distance of pointers": ("r0 = r10; r0 -= r1; exit", "R0 pointer -= pointer prohibited"),
    "an address in a map": (f"{LOOKUP}*(u64 *)(r0 + 0) = r10; {END}", "R10 leaks addr into map"),
    "an address as a number for a helper": (
        "r1 = r10; r2 = 0; call bpf_redirect; exit",
        "R1 leaks addr into helper function",
    ),
    "stack that was never written": ("r0 = *(u64 *)(r10 - 8); exit", "invalid read from stack R10 off=-8 size=8"),
    "a part of a spilled pointer": (
        "*(u64 *)(r10 - 8) = r1; *(u32 *)(r10 - 8) = 0; r0 = 0; exit",
        "attempt to corrupt spilled pointer on stack",
    ),
    "a number added to a pointer into a map": (f"{LOOKUP}{NUMBER}r6 += r0; r0 = *(u8 *)(r6 + 0); {END}", ""),
    "and taken from it": (f"{LOOKUP}{NUMBER}r6 += 8; r6 -= r0; r0 = *(u8 *)(r6 + 0); {END}", RANGE),
    "past the value": (
        f"{LOOKUP}{NUMBER}r6 += 60; r6 += r0; r0 = *(u8 *)(r6 + 0); {END}",
        RANGE,
    ),
    "past the stack": (
        "r0 = r10; r0 += 8; r0 = 0; exit",
        "R0 stack pointer arithmetic goes out of range, prohibited for !root; off=8",
    ),
    "an unknown place of the stack": (
        "call bpf_get_prandom_u32; r0 &= 8; r1 = r10; r1 += -16; r1 += r0; r0 = 0; exit",
        "R1 variable stack access prohibited for !root, var_off=(0x0; 0x8) off=-16",
    ),
    "a number to a pointer into a packet": (
        f"r6 = *(u32 *)(r1 + 0); call bpf_get_prandom_u32; r0 &= 7; r6 += r0; {END}",
        "R6 has pointer with unsupported alu operation, pointer arithmetic with it prohibited for !root",
    ),
    "signs that differ": (
        f"{LOOKUP}{NUMBER}r0 += -4; r6 += 16; r6 += r0; {END}",
        "R0 has unknown scalar with mixed signed bounds, pointer arithmetic with it prohibited for !root",
    ),
    "tracing": ("r1 = 0; r2 = 0; call bpf_trace_printk; r0 = 0; exit", "program of this type cannot use helper"),
    "what only a guess reaches": ("r0 = 0; if r0 != 0 goto bad; exit; bad: r0 = *(u64 *)(r1 + 1000); exit", ""),
}


def judge(bpf: Any, text: str) -> str:
    fd = bpf.map_create(MapType.ARRAY, 4, 64, 1)
    insns = assemble(text, maps={"values": fd})
    try:
        loaded = bpf.prog_load(ProgType.XDP, encode(insns), log_level=1)
    except VerifierError as error:
        return str(error.reason)
    except KernelError as error:
        return error.errno_name
    finally:
        bpf.close(fd)
    bpf.close(loaded.fd)
    return ""


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_refused(name: str) -> None:
    text, reason = PROGRAMS[name]
    answer = judge(Simulation(seed=1).host("h").bpf_as(CAPS), text)
    assert answer.startswith(reason)
    assert bool(answer) == bool(reason)


def _ask_linux() -> dict[str, str]:
    from ebpfsim.live import Bpf

    def question() -> dict[str, str]:
        drop_others(CAPS)
        bpf = Bpf()
        return {name: judge(bpf, text) for name, (text, _) in PROGRAMS.items()}

    answers: dict[str, str] = ask_in_child(question)
    return answers


@pytest.mark.live
def test_linux_refuses_the_same() -> None:
    bpf = Simulation(seed=1).host("h").bpf_as(CAPS)
    assert {name: judge(bpf, text) for name, (text, _) in PROGRAMS.items()} == _ask_linux()


def test_without_cap_bpf_loops_and_functions_are_refused() -> None:
    """kernel/bpf/verifier.c: push_insn() and add_subprog_and_kfunc() ask for CAP_BPF; socket filters are for all."""
    bpf = Simulation(seed=1).host("h", sysctl={"kernel.unprivileged_bpf_disabled": 0}).bpf_as(())
    answers = []
    for text in ("r0 = 9; again: r0 -= 1; if r0 != 0 goto again; exit", "call inner; exit; inner: r0 = 0; exit"):
        with pytest.raises(VerifierError) as refused:
            bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble(text)), log_level=1)
        answers.append((refused.value.errno_name, refused.value.reason))
    denied = "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN"
    assert answers == [("EINVAL", "back-edge from insn 2 to 1"), ("EPERM", denied)]
    assert bpf.prog_load(ProgType.SOCKET_FILTER, encode(assemble("r0 = 0; exit"))).fd
