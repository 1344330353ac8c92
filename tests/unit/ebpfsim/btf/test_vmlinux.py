"""The bundled BTF: what it says is what Linux 6.18 has, and asking for little costs little."""

import subprocess
import sys

from ebpfsim.btf.layout import alignof, member_offset, sizeof
from ebpfsim.btf.types import Func, Kind, Struct
from ebpfsim.btf.vmlinux import vmlinux


def test_known_types_of_linux_6_18() -> None:
    # bpftool btf dump file linux-6.18-x86_64.btf
    btf = vmlinux()
    assert btf.nr_types == 126573
    assert btf.type(btf.by_name("xdp_buff", Kind.STRUCT)).name == "xdp_buff"
    assert sizeof(btf, btf.by_name("xdp_buff", Kind.STRUCT)) == 56
    assert isinstance(btf.type(btf.by_name("tcp_v4_connect")), Func)


def test_index_finds_what_a_walk_finds() -> None:
    btf = vmlinux()
    for type_id in range(1, btf.nr_types, 997):
        name = btf.name_of(type_id)
        if name:
            assert type_id in btf.ids_by_name(name)
            assert type_id in btf.ids_by_name(name, btf.kind(type_id))


def test_index_knows_no_other_names() -> None:
    assert vmlinux().ids_by_name("no_such_type") == []


def test_names_with_flavour_are_found_by_stem() -> None:
    # the kernel itself has struct nf_conn___init beside struct nf_conn
    btf = vmlinux()
    names = {btf.name_of(i) for i in btf.ids_by_essential_name("nf_conn", Kind.STRUCT)}
    assert names == {"nf_conn", "nf_conn___init"}


def test_offsets_of_packet_pointers() -> None:
    # struct xdp_buff, include/net/xdp.h: data, data_end, data_meta, data_hard_start, rxq, txq
    fields = ["data", "data_end", "data_meta", "data_hard_start", "rxq", "txq", "frame_sz"]
    assert [member_offset(vmlinux(), "xdp_buff", field) for field in fields] == [0, 8, 16, 24, 32, 40, 48]


def test_member_of_an_anonymous_union_in_an_embedded_struct() -> None:
    # sock_common: skc_addrpair (8), skc_hash (4), skc_portpair (4), skc_family at 16 (include/net/sock.h)
    assert member_offset(vmlinux(), "sock", "__sk_common.skc_daddr") == 0
    assert member_offset(vmlinux(), "sock", "__sk_common.skc_rcv_saddr") == 4
    assert member_offset(vmlinux(), "sock", "__sk_common.skc_family") == 16


def test_alignment_of_kernel_structs() -> None:
    btf = vmlinux()
    assert alignof(btf, btf.by_name("sock_common", Kind.STRUCT)) == 8
    assert alignof(btf, btf.by_name("iphdr", Kind.STRUCT)) == 4
    # struct ethhdr is packed, which nothing in BTF shows: 14 bytes with a __be16 at 12
    assert alignof(btf, btf.by_name("ethhdr", Kind.STRUCT)) == 2


def test_importing_does_not_open_the_file() -> None:
    code = (
        "import sys, ebpfsim.btf.vmlinux as v, ebpfsim.loader, ebpfsim.elf.reader;print(v.vmlinux.cache_info().misses)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


def test_struct_of_a_name_is_one_type() -> None:
    btf = vmlinux()
    found = [btf.type(i) for i in btf.ids_by_name("task_struct", Kind.STRUCT)]
    assert len(found) == 1
    assert isinstance(found[0], Struct)
