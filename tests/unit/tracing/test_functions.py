"""Functions of the kernel: names and parameters are those of its BTF; slots."""

import inspect

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import InternalError, KernelError, NotModelled
from tracing.functions import KernelFunctions, kernel_function, kernel_model


def test_every_function_is_in_btf_with_as_many_words() -> None:
    functions = Simulation(seed=1).host("a").kernel.functions
    names = list(functions.names())
    assert "bpf_fentry_test1" in names
    for name in names:
        params = inspect.signature(getattr(functions, name)).parameters.values()
        if all(param.kind != inspect.Parameter.VAR_POSITIONAL for param in params):
            # the CPU comes first
            assert len(params) - 1 == kernel_model(name).nr_words, name


class Own:
    @kernel_function
    def bpf_fentry_test1(self, _cpu, a: int) -> int:
        return a + 1

    def helper(self) -> None:
        """Not the kernel's."""


@pytest.fixture
def functions() -> KernelFunctions:
    functions = KernelFunctions()
    functions.add(Own())
    return functions


def test_without_programs_the_slot_is_the_function(functions) -> None:
    assert functions.bpf_fentry_test1.__func__ is Own.bpf_fentry_test1
    site = functions.site("bpf_fentry_test1")
    site.poke(lambda cpu, a: 10 * site.original(cpu, a))
    assert functions.bpf_fentry_test1(None, 1) == 20
    site.surround(lambda call: lambda cpu, a: call(cpu, a) + 1)
    assert functions.bpf_fentry_test1(None, 1) == 21
    site.poke(None)
    assert functions.bpf_fentry_test1(None, 1) == 3
    site.surround(None)
    assert functions.bpf_fentry_test1.__func__ is Own.bpf_fentry_test1


def test_a_function_is_there_once(functions) -> None:
    with pytest.raises(InternalError, match=r"bpf_fentry_test1\(\) is there twice"):
        functions.add(Own())


def test_functions_that_nobody_calls_here(functions) -> None:
    with pytest.raises(NotModelled, match="kernel_halt"):
        functions.kernel_halt(None)
    assert functions.silent == []
    # it can be attached to, and is known never to fire
    functions.site("kernel_halt")
    functions.site("bpf_fentry_test1")
    assert functions.silent == ["kernel_halt"]
    assert functions.kernel_halt(None) == 0


@pytest.mark.parametrize(("name", "errno"), [("__schedule", "EBUSY"), ("int3_exception_notify", "EINVAL")])
def test_no_place_for_a_call(functions, name: str, errno: str) -> None:
    # facts/hooks "Refused targets"
    with pytest.raises(KernelError, match=errno):
        functions.site(name)
