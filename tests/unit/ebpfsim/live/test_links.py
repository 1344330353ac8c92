"""Attaching to the machine itself is refused before the kernel is asked."""

import struct

import pytest

from ebpfsim.errors import InputError, NotModelled
from ebpfsim.live.links import link_create_opts
from ebpfsim.uapi.bpf import AttachType


@pytest.mark.live
def test_hooks_beyond_a_network_namespace(live_bpf) -> None:
    with pytest.raises(InputError, match="reaches beyond a network namespace"):
        live_bpf.link_create(3, 0, AttachType.TRACE_FENTRY)


@pytest.mark.live
def test_the_machines_own_network(live_bpf) -> None:
    with pytest.raises(InputError, match="the machine's own network namespace"):
        live_bpf.link_create(3, 1, AttachType.XDP)


@pytest.mark.live
def test_links_that_are_not_open(live_bpf, refused) -> None:
    assert refused(live_bpf.link_update, 987, 987) == "EBADF"
    assert refused(live_bpf.link_detach, 987) == "EBADF"


def test_options_lie_in_the_union_at_the_place_of_their_part() -> None:
    """Offsets of ``link_create`` in include/uapi/linux/bpf.h, from its byte 16 on."""
    assert link_create_opts({"relative_fd": 3, "expected_revision": 9})[0] == struct.pack("<IIQ", 3, 0, 9)
    assert link_create_opts({"cookie": 7})[0] == struct.pack("<IIQ", 0, 0, 7)
    assert link_create_opts({"bpf_cookie": 7})[0] == struct.pack("<Q", 7)
    data, kept = link_create_opts({"syms": ["one", "two"], "kprobe_multi_flags": 1})
    assert struct.unpack("<IIQQQ", data)[:2] == (1, 2)
    assert {bytes(each.raw[:3]) for each in kept} >= {b"one", b"two"}


def test_options_of_different_parts() -> None:
    with pytest.raises(NotModelled, match="link_create with bpf_cookie, syms"):
        link_create_opts({"bpf_cookie": 1, "syms": []})


@pytest.mark.live
def test_tracepoints_of_a_machine_that_stays(live_bpf) -> None:
    with pytest.raises(NotModelled, match="not thrown away"):
        live_bpf.raw_tracepoint_open("sys_enter", 3)
