"""Names and numbers as bpf(2) checks them."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.syscall.common import check_name, enum_value
from ebpfsim.uapi.bpf import ProgType


# bpf_obj_name_cpy(): isalnum(), '_' and '.', a NUL within 16 bytes
@pytest.mark.parametrize("name", ["", "a", "A_1.b", "x" * 15])
def test_names(name) -> None:
    check_name("op", name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 16, f"op: Invalid argument (EINVAL): name '{'x' * 16}' of 16 characters, at most 15"),
        ("a-b", "op: Invalid argument (EINVAL): name 'a-b': character '-' is not a letter, digit, '_' or '.'"),
    ],
)
def test_names_refused(name, message) -> None:
    with pytest.raises(KernelError) as error:
        check_name("op", name)
    assert str(error.value) == message


def test_numbers() -> None:
    assert enum_value("op", ProgType, 6) is ProgType.XDP
    with pytest.raises(KernelError, match=r"EINVAL\): ProgType 99 does not exist"):
        enum_value("op", ProgType, 99)


def test_wrong_kind_of_descriptor_is_named(kernel) -> None:
    fd = kernel.bpf.btf_get_fd_by_id(1)
    with pytest.raises(KernelError, match=r"fd 3 is a BtfObject, expected a Map"):
        kernel.bpf.map_lookup_elem(fd, bytes(4))
