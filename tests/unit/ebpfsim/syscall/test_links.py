"""The link commands: from descriptors to hooks and back; the rules of each hook are tested with the hook."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, LinkType, MapType, ProgType
from ebpfsim.uapi.flags import BPF_F_REPLACE, XDP_FLAGS_SKB_MODE

LO = 1


@pytest.fixture
def load(kernel):
    def load(retval: int = 2, **attributes) -> int:
        return kernel.bpf.prog_load(ProgType.XDP, encode(assemble(f"r0 = {retval}; exit")), **attributes).fd

    return load


@pytest.fixture
def link(kernel, load) -> int:
    return kernel.bpf.link_create(load(), LO, AttachType.XDP, flags=XDP_FLAGS_SKB_MODE)


def test_info(kernel, load, link) -> None:
    info = kernel.bpf.obj_get_info_by_fd(link)
    assert (info.type, info.id, info.ifindex) == (LinkType.XDP, 1, LO)
    assert kernel.progs.find(info.prog_id) is not None
    with pytest.raises(AttributeError, match="has no 'netns_ino'"):
        _ = info.netns_ino


def test_create_refused(kernel, load, refused) -> None:
    bpf = kernel.bpf
    assert refused(bpf.link_create, 987, LO, AttachType.XDP) == "EBADF"
    assert refused(bpf.link_create, bpf.map_create(MapType.ARRAY, 4, 4, 1), LO, AttachType.XDP) == "EINVAL"
    assert refused(bpf.link_create, load(), 4242, AttachType.XDP) == "EINVAL"
    assert refused(bpf.link_create, load(), LO, 999) == "EINVAL"


def test_attach_types_of_other_programs_are_refused(kernel, load, refused) -> None:
    assert refused(kernel.bpf.link_create, load(), 0, AttachType.TRACE_FENTRY) == "EINVAL"
    assert refused(kernel.bpf.link_create, load(), LO, AttachType.XDP_DEVMAP) == "EINVAL"


def test_update(kernel, load, link, refused) -> None:
    bpf = kernel.bpf
    old, new = kernel.links.find(1).prog, load(1)
    bpf.link_update(link, new)
    assert kernel.links.find(1).prog is kernel.fds.lookup(new)
    assert old.refs == 1
    other = load(3)
    assert refused(bpf.link_update, link, other, old_prog_fd=load(0), flags=BPF_F_REPLACE) == "EPERM"
    assert refused(bpf.link_update, link, other, old_prog_fd=new) == "EINVAL"
    assert refused(bpf.link_update, link, other, flags=1) == "EINVAL"
    assert refused(bpf.link_update, other, other) == "EINVAL"
    assert refused(bpf.link_update, link, 987) == "EBADF"
    bpf.link_update(link, other, old_prog_fd=new, flags=BPF_F_REPLACE)
    assert kernel.links.find(1).prog is kernel.fds.lookup(other)


def test_detach(kernel, load, link, refused) -> None:
    bpf = kernel.bpf
    bpf.link_detach(link)
    assert bpf.obj_get_info_by_fd(link).ifindex == 0
    assert refused(bpf.link_update, link, load()) == "ENOLINK"
    bpf.link_detach(link)


def test_last_descriptor_takes_the_link_off(kernel, load, link, refused) -> None:
    bpf = kernel.bpf
    other = bpf.link_get_fd_by_id(bpf.link_get_next_id(0))
    bpf.close(link)
    assert len(kernel.links) == 1
    bpf.close(other)
    assert len(kernel.links) == 0
    assert kernel.device_by_ifindex(LO).xdp.active is None


def test_pin(kernel, link) -> None:
    bpf = kernel.bpf
    bpf.obj_pin(link, "/sys/fs/bpf/link")
    bpf.close(link)
    assert bpf.obj_get_info_by_fd(bpf.obj_get("/sys/fs/bpf/link")).ifindex == LO
