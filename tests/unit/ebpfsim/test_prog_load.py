"""From instructions to a program: tags, licenses, dumps; what bpf(2) answers is the matter of syscall/test_progs."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.prog_load import license_is_gpl_compatible, prog_tag
from ebpfsim.uapi.bpf import AttachType, ProgType


# read off Linux 6.18
@pytest.mark.parametrize(
    ("code", "tag"),
    [("r0 = 2; exit", "614b434cd8324ecc"), ("r1 = map_fd[77] ll; r0=2; exit", "2d00ef086dd753ef")],
)
def test_tag(code, tag) -> None:
    assert prog_tag(assemble(code)).hex() == tag


def test_tag_depends_on_offsets_of_values_no_more_than_on_descriptors() -> None:
    tags = {prog_tag(assemble(f"r1 = map_value[{fd}]+{off} ll; r0 = 2; exit")) for fd, off in ((3, 0), (4, 8))}
    assert len(tags) == 1


@pytest.mark.parametrize("text", ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MPL/GPL"])
def test_licenses_that_are_compatible(text) -> None:
    assert license_is_gpl_compatible(text)


@pytest.mark.parametrize("text", ["GPL-2.0", "Apache-2.0", "BSD", "GPL "])
def test_licenses_that_are_not(text) -> None:
    assert not license_is_gpl_compatible(text)


def test_default_attach_types(kernel) -> None:
    from ebpfsim.prog_load import ATTACH_TYPES, DEFAULT_ATTACH_TYPES

    for prog_type, attach_type in DEFAULT_ATTACH_TYPES.items():
        assert attach_type in ATTACH_TYPES[prog_type]
    assert DEFAULT_ATTACH_TYPES[ProgType.SK_REUSEPORT] == AttachType.SK_REUSEPORT_SELECT


def test_images_have_addresses_of_their_own(kernel) -> None:
    code = encode(assemble("r0 = 2; exit"))
    progs = [kernel.fds.lookup(kernel.bpf.prog_load(ProgType.XDP, code).fd) for _ in range(3)]
    assert len({prog.image_addr for prog in progs}) == 3
    assert all(prog.func_addr(1) == prog.image_addr + 8 for prog in progs)
