"""Attaching to the machine itself is refused before the kernel is asked."""

import pytest

from ebpfsim.errors import InputError
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
