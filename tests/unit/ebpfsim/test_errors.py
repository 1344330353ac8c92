"""How errors read, word for word, and that they form one tree."""

import pytest

import ebpfsim.errors as errors
from ebpfsim.errnos import Errno

LOG = "0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n"

TEXTS = [
    (errors.InputError("a.yaml:3:5", "unknown key 'x'"), "a.yaml:3:5: error: unknown key 'x'"),
    (errors.InputError("", "bad", "good"), "error: bad\ntry: good"),
    (errors.AsmError("p:1:1", "unknown word", source="  r0 =\n  ^"), "p:1:1: error: unknown word\n  r0 =\n  ^"),
    (errors.DecodeError("x", "7 bytes"), "x: error: 7 bytes"),
    (errors.ElfError("x.o", "no ELF"), "x.o: error: no ELF"),
    (errors.BtfError("x.o", "bad magic"), "x.o: error: bad magic"),
    (errors.KernelError("map_create", Errno.EINVAL), "map_create: Invalid argument (EINVAL)"),
    (errors.KernelError("op", Errno.EBUSY, "twice"), "op: Device or resource busy (EBUSY): twice"),
    (
        errors.VerifierError("load program 'p'", Errno.EACCES, LOG),
        "load program 'p': Permission denied (EACCES): R0 !read_ok (3 lines omitted)",
    ),
    (
        errors.KernelOops("wild read", "p", 3, 0x10),
        "kernel oops: wild read in program 'p' at insn 3, address 0x10",
    ),
    (errors.NotModelled("bpf(BPF_X)", "kernel/bpf/syscall.c"), "not modelled: bpf(BPF_X) (kernel/bpf/syscall.c)"),
    (errors.InternalError("a map without a name", 7), "internal error: a map without a name; replay with seed 7"),
]


@pytest.mark.parametrize(("error", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_text(error: errors.EbpfSimError, text: str) -> None:
    assert str(error) == text


def test_tree() -> None:
    def parents(cls: type) -> list[str]:
        return [base.__name__ for base in cls.__mro__[1:-3]]

    assert {name: parents(getattr(errors, name)) for name in errors.__all__} == {
        "EbpfSimError": [],
        "InputError": ["EbpfSimError"],
        "AsmError": ["InputError", "EbpfSimError"],
        "DecodeError": ["InputError", "EbpfSimError"],
        "ElfError": ["InputError", "EbpfSimError"],
        "BtfError": ["InputError", "EbpfSimError"],
        "ScenarioError": ["InputError", "EbpfSimError"],
        "KernelError": ["EbpfSimError"],
        "VerifierError": ["KernelError", "EbpfSimError"],
        "KernelOops": ["EbpfSimError"],
        "NotModelled": ["EbpfSimError"],
        "InternalError": ["EbpfSimError"],
    }
    assert not issubclass(errors.KernelError, OSError)  # real I/O errors stay distinct


def test_verifier_error_keeps_the_log() -> None:
    error = errors.VerifierError("prog_load", Errno.EACCES, LOG, 0)
    assert error.reason == "R0 !read_ok"
    assert error.head(1) == "0: R1=ctx() R10=fp0"
    assert error.tail(2) == "R0 !read_ok\nprocessed 1 insns (limit 1000000)"
    assert (error.errno, error.errno_name, error.strerror) == (13, "EACCES", "Permission denied")


def test_verifier_error_without_a_log() -> None:
    assert str(errors.VerifierError("prog_load", Errno.E2BIG, "")) == "prog_load: Argument list too long (E2BIG)"


def test_very_many_errors_are_counted_instead() -> None:
    others = tuple(errors.ScenarioError(f"x.yaml:{line}:1", "wrong") for line in range(2, 201))
    lines = str(errors.ScenarioError("x.yaml:1:1", "wrong", others=others)).splitlines()
    assert lines == [*(f"x.yaml:{line}:1: error: wrong" for line in range(1, 51)), "and 150 more errors"]
