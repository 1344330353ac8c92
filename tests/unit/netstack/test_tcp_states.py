"""Numbers of TCP as the kernel's BTF has them."""

import pytest

from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from netstack.tcp_states import CaEvent, CaState, TcpState

NUMBERS = {
    value.name: value.value
    for type_id in vmlinux().ids_of_kind(Kind.ENUM)
    for value in vmlinux().type(type_id).values
    if value.name.startswith(("TCP_", "CA_EVENT_"))
}


@pytest.mark.parametrize(
    ("numbers", "prefix"),
    [(TcpState, "TCP_"), (CaState, "TCP_CA_"), (CaEvent, "CA_EVENT_")],
    ids=["state", "ca", "event"],
)
def test_numbers(numbers: type, prefix: str) -> None:
    spelled = {"DISORDER": "Disorder", "OPEN": "Open", "RECOVERY": "Recovery"}
    for each in numbers:
        name = spelled.get(each.name, each.name) if numbers is CaState else each.name
        name = "Loss" if numbers is CaState and name == "LOSS" else name
        assert NUMBERS[prefix + name] == each, each
