"""Every layer on the list is there, and its fields say what they can hold."""

import pytest

from ebpfsim.scenario.layers import LAYERS, PacketProblem, check_value, field_of, layer_class


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_layer_exists(name: str) -> None:
    assert layer_class(name)().layers()[0].__name__ == name


def test_network_stands_for_its_addresses() -> None:
    assert check_value("IP", "dst", "10.0.0.0/30") == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert check_value("IPv6", "dst", "fd00::/127") == ["fd00::", "fd00::1"]


def test_lists_and_ranges_are_checked_item_by_item() -> None:
    assert check_value("UDP", "dport", [1, 2]) == [1, 2]
    assert check_value("UDP", "dport", (1, 9)) == (1, 9)
    for wrong in ([1, 70000], (1, 70000), (9, 1), (1, 2, 3)):
        with pytest.raises(PacketProblem):
            check_value("UDP", "dport", wrong)


def test_fields_of_the_ethernet_kind_of_arp() -> None:
    assert check_value("ARP", "psrc", "10.0.0.1") == "10.0.0.1"
    with pytest.raises(PacketProblem, match="not a MAC address"):
        check_value("ARP", "hwsrc", "10.0.0.1")


def test_unknown_field_names_the_known_ones() -> None:
    with pytest.raises(PacketProblem, match="UDP has no field 'prot'"):
        field_of("UDP", "prot")
