"""How functions are called: sizes and signs from BTF (btf_distill_func_proto(), kernel/bpf/btf.c)."""

import pytest

from hooks.func_model import FuncModel
from tracing.functions import kernel_model


def test_models_of_the_kernels_test_functions() -> None:
    # net/bpf/test_run.c: int bpf_fentry_test6(u64 a, void *b, short c, int d, void *e, u64 f)
    model = kernel_model("bpf_fentry_test6")
    assert model.arg_sizes == (8, 8, 2, 4, 8, 8)
    assert model.signed == (False, False, True, True, False, False)
    assert (model.ret_size, model.ret_signed) == (4, True)


def test_a_structure_of_16_bytes_takes_two_words() -> None:
    # facts/hooks: do_tcp_setsockopt(sk, level, optname, sockptr_t optval, optlen) has 6 words
    model = kernel_model("do_tcp_setsockopt")
    assert model.structs == (False, False, False, True, False)
    assert model.nr_words == 6
    assert model.words((1, -1, 3, 1 << 63, 5, -6)) == (1, 0xFFFF_FFFF, 3, 1 << 63, 5, 0xFFFF_FFFA)


@pytest.mark.parametrize(
    ("size", "signed", "value", "word", "result"),
    [
        (4, True, -13, 0xFFFF_FFF3, -13),
        (4, False, -1, 0xFFFF_FFFF, 0xFFFF_FFFF),
        (8, True, -1, (1 << 64) - 1, -1),
        (1, False, 257, 1, 1),
        (0, False, None, 0, 0),
    ],
)
def test_results(size, signed, value, word, result) -> None:
    model = FuncModel((), ret_size=size, ret_signed=signed)
    assert model.ret_word(value) == word
    assert model.result(word) == result
