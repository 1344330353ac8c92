"""Lookups of routes as structures: places by BTF, values as ``ip route get`` would ask."""

from ebpfsim.btf.view import place
from netstack.fib import LOCAL_TABLE, MAIN_TABLE
from netstack.flow import Flow4, TableRef


def member(mem, struct: str, address: int, path: str) -> bytes:
    offset, size = place(struct, path)
    return mem.read(address + offset, size)


def test_a_flow_lies_at_its_layout(lab) -> None:
    net, _ = lab.pair()
    flow = Flow4(net, 0x0A000002, 0x0A000001, 17, 6000, 53, oif=2, iif=1, tos=0xB9, mark=7)
    mem, address = net.kernel.mem, flow.struct_address
    assert member(mem, "flowi4", address, "daddr") == bytes((10, 0, 0, 2))
    assert member(mem, "flowi4", address, "saddr") == bytes((10, 0, 0, 1))
    assert member(mem, "flowi4", address, "uli.ports.sport") == (6000).to_bytes(2, "big")
    assert member(mem, "flowi4", address, "uli.ports.dport") == (53).to_bytes(2, "big")
    assert member(mem, "flowi4", address, "__fl_common.flowic_proto") == b"\x11"
    assert member(mem, "flowi4", address, "__fl_common.flowic_oif") == (2).to_bytes(4, "little")
    # the bits of ECN are none of a route's
    assert member(mem, "flowi4", address, "__fl_common.flowic_dscp") == b"\xb8"
    assert flow.struct_address == address


def test_the_next_hop_of_what_was_found(lab) -> None:
    net, _ = lab.pair()
    net.add_route("10.9.0.0/16", via="10.0.0.2")
    flow = Flow4(net, 0x0A090001)
    assert flow.nexthop_address == 0
    flow.route = net.fib.lookup(0x0A090001)
    mem, address = net.kernel.mem, flow.nexthop_address
    assert member(mem, "fib_nh_common", address, "nhc_gw.ipv4") == bytes((10, 0, 0, 2))
    assert member(mem, "fib_nh_common", address, "nhc_gw_family") == b"\x02"
    dev = net.devices["eth0"].struct_address
    assert member(mem, "fib_nh_common", address, "nhc_dev") == dev.to_bytes(8, "little")


def test_tables_have_their_number(lab) -> None:
    net, _ = lab.pair()
    tables = [TableRef(net, number).struct_address for number in (LOCAL_TABLE, MAIN_TABLE, LOCAL_TABLE)]
    assert tables[0] == tables[2] != tables[1]
    numbers = [member(net.kernel.mem, "fib_table", table, "tb_id") for table in tables[:2]]
    assert numbers == [(255).to_bytes(4, "little"), (254).to_bytes(4, "little")]


def test_structures_of_old_lookups_are_used_again(lab) -> None:
    net, _ = lab.pair()
    places = {Flow4(net, number).struct_address for number in range(100)}
    assert len(places) == 8
