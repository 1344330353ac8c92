"""What maps of sockets share."""

import pytest

from ebpfsim.errors import KernelError
from ebpfsim.maps.sock import exist_errno, read_cookie, sock_fd


@pytest.mark.parametrize(("there", "flags", "errno"), [(True, 0, 0), (True, 1, 17), (True, 2, 0), (False, 1, 0)])
def test_flags_against_what_is_there(there, flags, errno) -> None:
    assert exist_errno(there, flags) == errno


def test_absent() -> None:
    assert exist_errno(False, 2) == 2


def test_descriptors_of_eight_bytes_are_positive_ints() -> None:
    assert sock_fd((7).to_bytes(8, "little")) == 7
    with pytest.raises(KernelError, match=r"descriptor 2147483648"):
        sock_fd((1 << 31).to_bytes(8, "little"))


def test_cookies_need_eight_bytes() -> None:
    with pytest.raises(
        KernelError, match=r"No space left on device \(ENOSPC\): m: a cookie has 8 bytes, values have 4"
    ):
        read_cookie("m", 4, lambda: None)
    with pytest.raises(KernelError, match=r"\(ENOENT\)"):
        read_cookie("m", 8, lambda: None)
