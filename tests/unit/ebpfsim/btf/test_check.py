"""Whole blobs as Linux 6.18 judged them (tests/data/btf/README.md)."""

from btf_blobs import INT, blob, recorded

from ebpfsim.btf.check import Checked, check_btf
from ebpfsim.errnos import Errno


def test_errno_and_log_are_those_of_linux() -> None:
    records = recorded()
    for record in records:
        data = bytes.fromhex(record["btf"])
        checked = check_btf(data, wants_log=True)
        assert (checked.errno.name if checked.errno is not None else "") == record["errno"], record
        if checked.errno is not None:
            assert checked.log == record["log"], record
        assert check_btf(data, wants_log=False) == Checked(checked.errno, "")
    assert (len(records), sum(not record["errno"] for record in records)) == (188, 46)


def test_the_log_of_a_blob_that_is_taken_begins_with_its_header() -> None:
    # btf_verifier_log_hdr(), kernel/bpf/btf.c
    assert check_btf(blob(INT), wants_log=True).log == (
        "magic: 0xeb9f\nversion: 1\nflags: 0x0\nhdr_len: 24\ntype_off: 0\ntype_len: 16\nstr_off: 16\nstr_len: 28\n"
        "btf_total_size: 68\n[1] INT int size=4 bits_offset=0 nr_bits=32 encoding=SIGNED\n"
    )


def test_sections_are_sorted_by_signed_differences() -> None:
    # btf_sec_info_cmp(): an offset of 2 GiB and more comes first
    data = bytearray(blob(INT))
    data[8:12] = (0x8000_0010).to_bytes(4, "little")
    data[16:20] = (0).to_bytes(4, "little")
    checked = check_btf(bytes(data), wants_log=True)
    assert (checked.errno, checked.log.split("\n")[-1]) == (Errno.EINVAL, "Invalid section offset")
