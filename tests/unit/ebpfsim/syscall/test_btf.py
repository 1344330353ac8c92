"""BPF_BTF_LOAD (kernel/bpf/btf.c, v6.18), asked of both kernels."""

import pytest
from btf_blobs import recorded

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Int, Member, Struct
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import MapType, ProgType

BLOB = encode_types([Int("int", 4, 32, encoding=1), Struct("pair", 8, (Member("a", 1, 0), Member("b", 1, 32)))])


def test_blob_comes_back(bpf) -> None:
    info = bpf.obj_get_info_by_fd(bpf.btf_load(BLOB))
    assert (info.btf, info.btf_size, info.name, info.kernel_btf) == (BLOB, len(BLOB), "", 0)


def test_ids(bpf, refused) -> None:
    fd = bpf.btf_load(BLOB)
    btf_id = bpf.obj_get_info_by_fd(fd).id
    assert btf_id > 1
    assert bpf.btf_get_next_id(btf_id - 1) == btf_id
    other = bpf.btf_get_fd_by_id(btf_id)
    bpf.close(fd)
    assert bpf.obj_get_info_by_fd(other).id == btf_id


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x9f\xeb",
        b"\x9f\xec" + BLOB[2:],
        BLOB[:-1] + b"x",
        BLOB[:-4],
        encode_types([Struct("pair", 8, (Member("a", 9, 0), Member("b", 9, 32)))]),
    ],
    ids=["empty", "short", "magic", "unterminated", "cut off", "unknown id"],
)
def test_malformed_blobs(bpf, refused, data) -> None:
    assert refused(bpf.btf_load, data) == "EINVAL"


@pytest.mark.parametrize("place", [2, 3], ids=["version", "flags"])
def test_versions_to_come(bpf, refused, place) -> None:
    assert refused(bpf.btf_load, BLOB[:place] + b"\2" + BLOB[place + 1 :]) == "ENOTSUPP"


def test_too_large(bpf, refused) -> None:
    assert refused(bpf.btf_load, bytes((16 << 20) + 1)) == "E2BIG"


def test_the_kernels_own_btf_describes_no_maps_and_no_programs(bpf, refused) -> None:
    own = bpf.btf_get_fd_by_id(1)
    ids = {"btf_fd": own, "btf_key_type_id": 1, "btf_value_type_id": 1}
    assert refused(bpf.map_create, MapType.HASH, 8, 8, 1, **ids) == "EACCES"
    code = encode(assemble("r0 = 2; exit"))
    assert refused(bpf.prog_load, ProgType.XDP, code, prog_btf_fd=own, func_info=bytes(8)) == "EACCES"


def test_log_levels(bpf, refused) -> None:
    assert bpf.btf_load(BLOB, log_level=1) > 0
    assert refused(bpf.btf_load, BLOB, log_level=16) == "EINVAL"


def test_last_descriptor_ends_it(kernel, refused) -> None:
    fd = kernel.bpf.btf_load(BLOB)
    btf_id = kernel.bpf.obj_get_info_by_fd(fd).id
    kernel.bpf.close(fd)
    assert refused(kernel.bpf.btf_get_fd_by_id, btf_id) == "ENOENT"


def test_a_refusal_comes_with_the_kernels_log(bpf) -> None:
    wrong = encode_types([Struct("pair", 8, (Member("a", 9, 0),))])
    with pytest.raises(VerifierError) as refused:
        bpf.btf_load(wrong)
    assert refused.value.reason == "\ta type_id=9 bits_offset=0 Invalid member"


def answer(bpf, blob: bytes) -> tuple[str, str]:
    try:
        bpf.close(bpf.btf_load(blob, log_level=1))
    except VerifierError as error:
        return error.errno_name, error.log
    return "", ""


def test_all_that_was_recorded(bpf) -> None:
    for record in recorded():
        assert answer(bpf, bytes.fromhex(record["btf"])) == (record["errno"], record["log"])


def test_special_fields_that_do_not_go_together_leave_the_log_without_a_reason(bpf) -> None:
    lock = Struct("bpf_spin_lock", 4, (Member("x", 1, 0),))
    blob = encode_types(
        [Int("int", 4, 32, encoding=1), lock, Struct("two", 8, (Member("a", 2, 0), Member("b", 2, 32)))]
    )
    errno, log = answer(bpf, blob)
    assert (errno, log.splitlines()[-1]) == ("E2BIG", "\tb type_id=2 bits_offset=32")
