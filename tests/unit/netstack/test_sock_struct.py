"""``struct sock`` at the offsets of the kernel's BTF (v6.18)."""

from ebpfsim.memory import Memory
from netstack import sock_struct
from netstack.sock_struct import SockStruct


def test_addresses_are_in_network_order() -> None:
    mem = Memory()
    sock = SockStruct(mem, 17)
    sock.set_bound(0x0A000001, 53)
    sock.set_peer(0x0A000002, 80)
    assert mem.read(sock.address, 8) == bytes([10, 0, 0, 2, 10, 0, 0, 1])
    assert mem.read(sock.address + 12, 4) == bytes([0, 80, 53, 0])
    assert mem.load(sock.address + 18, 1) == sock_struct.TCP_ESTABLISHED
    assert (sock.mark, sock.priority) == (0, 0)
    sock.free()
