"""Errors keep their kind, errno, log and notes when it is said what was being done."""

from ebpfsim.errors import ElfError, InputError, KernelError, NotModelled, VerifierError
from ebpfsim.loader.calls import in_context


def test_refusals() -> None:
    error = in_context(KernelError("map_create", 22, "key of 0 bytes"), "create map 'm'")
    assert isinstance(error, KernelError)
    assert str(error) == "create map 'm': map_create: Invalid argument (EINVAL): key of 0 bytes"
    assert error.errno == 22


def test_refusals_of_the_verifier() -> None:
    original = VerifierError("prog_load", 13, "0: (95) exit\nR0 !read_ok\n", 0)
    original.add_note("a hint")
    error = in_context(original, "load program 'p'")
    assert isinstance(error, VerifierError)
    assert (error.log, error.insn_idx, error.errno) == (original.log, 0, 13)
    assert str(error) == "load program 'p': prog_load: Permission denied (EACCES): R0 !read_ok (1 lines omitted)"
    assert error.__notes__ == ["a hint"]


def test_what_is_not_modelled() -> None:
    error = in_context(NotModelled("helper bpf_x", "net/core/filter.c"), "load program 'p'")
    assert str(error) == "not modelled: helper bpf_x, needed to load program 'p' (net/core/filter.c)"


def test_input_without_a_place_gets_one() -> None:
    error = in_context(InputError("", "5 bytes, at most 4", "less"), "create map 'm'")
    assert str(error) == "create map 'm': error: 5 bytes, at most 4\ntry: less"


def test_wrong_input_passes() -> None:
    error = ElfError("x.o", "no programs")
    assert in_context(error, "load program 'p'") is error
