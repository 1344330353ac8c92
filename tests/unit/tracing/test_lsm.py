"""Security hooks without programs. What programs do on them is in tests/facts/test_lsm.py."""

import pytest

from ebpfsim.errors import NotModelled
from ebpfsim.memory import Memory
from tracing.functions import KernelFunctions
from tracing.lsm import add_security_hooks


@pytest.fixture
def functions() -> KernelFunctions:
    functions = KernelFunctions()
    add_security_hooks(functions, Memory())
    return functions


@pytest.mark.parametrize(
    ("name", "words", "default"),
    # include/linux/lsm_hook_defs.h, v6.18
    [("bpf_lsm_file_open", 1, 0), ("bpf_lsm_task_prctl", 5, -38), ("bpf_lsm_inode_setsecurity", 5, -95)],
)
def test_hooks_return_their_defaults(functions, name: str, words: int, default: int) -> None:
    assert getattr(functions, name)(None, *[0] * words) == default


def test_security_functions_ask_the_hook_of_their_name(functions) -> None:
    site = functions.site("bpf_lsm_file_open")
    site.poke(lambda _cpu, file: -file)
    assert functions.security_file_open(None, 13) == -13


@pytest.mark.parametrize("name", ["bpf_lsm_no_such_hook", "security_no_such_hook", "security_sk_classify_flow"])
def test_what_is_no_hook_or_asks_in_other_words_is_not_modelled(functions, name: str) -> None:
    with pytest.raises(NotModelled, match=name):
        getattr(functions, name)
