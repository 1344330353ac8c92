"""``struct sock`` of an IPv4 socket in simulated RAM, at the layout of the kernel's BTF (v6.18), as programs see it.

Left out: everything that programs reach only through kernel functions or tracing.
"""

from ebpfsim.memory import Memory

__all__ = ["SOCK_BYTES", "SockStruct"]

SOCK_BYTES = 784
# struct sock_common, and struct sock behind it
SKC_DADDR, SKC_RCV_SADDR, SKC_DPORT, SKC_NUM, SKC_FAMILY, SKC_STATE, SKC_BOUND_DEV_IF = 0, 4, 12, 14, 16, 18, 20
SK_PRIORITY, SK_MARK, SK_PROTOCOL, SK_TYPE = 520, 524, 532, 534
AF_INET, SOCK_DGRAM = 2, 2
TCP_ESTABLISHED, TCP_CLOSE = 1, 7  # include/net/tcp_states.h


class SockStruct:
    """The structure of one socket; ``free`` gives it back."""

    __slots__ = ("address", "mem")

    def __init__(self, mem: Memory, protocol: int, sock_type: int = SOCK_DGRAM, size: int = SOCK_BYTES) -> None:
        self.mem = mem
        self.address = mem.alloc(size, what="struct sock")
        mem.store(self.address + SKC_FAMILY, 2, AF_INET)
        mem.store(self.address + SK_PROTOCOL, 2, protocol)
        mem.store(self.address + SK_TYPE, 2, sock_type)
        self.set_peer(0, 0)

    def set_bound(self, address: int, port: int) -> None:
        """Show the socket's own address and port."""
        self.mem.write(self.address + SKC_RCV_SADDR, address.to_bytes(4, "big"))
        self.mem.store(self.address + SKC_NUM, 2, port)

    def set_peer(self, address: int, port: int) -> None:
        """Show the other end, port 0 for none."""
        self.mem.write(self.address + SKC_DADDR, address.to_bytes(4, "big"))
        self.mem.write(self.address + SKC_DPORT, port.to_bytes(2, "big"))
        self.mem.store(self.address + SKC_STATE, 1, TCP_ESTABLISHED if port else TCP_CLOSE)

    @property
    def mark(self) -> int:
        """``sk_mark``, which programs may set."""
        return self.mem.load(self.address + SK_MARK, 4)

    @property
    def priority(self) -> int:
        """``sk_priority``, which programs may set."""
        return self.mem.load(self.address + SK_PRIORITY, 4)

    def free(self) -> None:
        """Give the memory back."""
        self.mem.free(self.address)
