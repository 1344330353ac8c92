"""Contexts that the caller of a test run gives (bpf_ctx_init(), net/bpf/test_run.c, v6.18)."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.test_run.attr import TestRunAttr, ctx_init, refuse_settings


@pytest.mark.parametrize(
    ("given", "expected"), [(b"", b""), (b"ab", b"ab\0\0"), (b"abcd", b"abcd"), (b"abcd\0\0", b"abcd")]
)
def test_short_contexts_go_on_with_zeroes(given, expected) -> None:
    assert ctx_init(given, 4, "struct x") == expected


@pytest.mark.parametrize("given", [b"abcde", bytes(4097)])
def test_longer_contexts_with_more_in_them(given) -> None:
    with pytest.raises(KernelError, match="E2BIG"):
        ctx_init(given, 4, "struct x")


def test_settings_that_a_type_does_not_take() -> None:
    attr = TestRunAttr(b"x", repeat=3, cpu=1)
    refuse_settings(attr, "flags", "batch_size")
    for name in ("data_in", "repeat", "cpu"):
        with pytest.raises(KernelError, match=rf"{name}.*EINVAL|EINVAL.*{name}"):
            refuse_settings(attr, name)
