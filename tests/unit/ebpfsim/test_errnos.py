"""The table of errnos agrees with the C library of a Linux machine, and has the kernel's own numbers besides."""

import errno
import os
import platform

import pytest

from ebpfsim.errnos import ERRNO_NAMES, ERRNO_TEXTS, Errno, errno_name, strerror

LIBC = platform.libc_ver()[0] == "glibc" and platform.machine() == "x86_64"


def test_names_are_those_of_the_kernel() -> None:
    assert errno_name(13) == errno_name(-13) == "EACCES"
    assert errno_name(95) == "EOPNOTSUPP"
    assert errno_name(524) == "ENOTSUPP"  # include/linux/errno.h: not for user space, yet it gets there
    assert errno_name(4000) == "4000"


def test_numbers_and_names_are_one_table() -> None:
    assert all(ERRNO_NAMES[member] == member.name for member in Errno)


@pytest.mark.skipif(not LIBC, reason="compares with glibc on x86-64")
def test_numbers_and_texts_are_those_of_glibc() -> None:
    ours = {name: int(number) for number, name in ERRNO_NAMES.items() if number < 500}
    theirs = {name: getattr(errno, name) for name in ours if hasattr(errno, name)}
    assert len(theirs) > 120
    assert {name: ours[name] for name in theirs} == theirs
    assert {number: strerror(number) for number in ERRNO_TEXTS if number < 500} == {
        number: os.strerror(number) for number in ERRNO_TEXTS if number < 500
    }


def test_unknown_number_reads_as_in_glibc() -> None:
    assert strerror(524) == "Unknown error 524"
    assert strerror(-2) == "No such file or directory"
