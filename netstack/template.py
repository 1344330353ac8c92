"""Frames made from one frame by changing fields, with right checksums, as fast as bytes are copied.

::

    syn = Template(bytes(Ether() / IP() / TCP(flags="S")))
    syn.frame(src=0x0A000001, sport=4242, seq=7)

A template is an Ethernet frame (VLAN tags allowed) of IPv4 or IPv6, whose payload may be TCP or UDP. Sums are those of
RFC 1624: only what has changed is added.
"""

from ebpfsim.errors import InputError
from ebpfsim.uapi.net import EtherType, IpProto
from netstack.headers import ETH_HLEN, IP_HLEN, VLAN_HLEN
from netstack.headers6 import IP6_HLEN

__all__ = ["FIELDS", "Template"]

FIELDS = ("src", "dst", "ident", "ttl", "sport", "dport", "seq", "ack")
_CHECK_AT = {IpProto.TCP: 16, IpProto.UDP: 6}
_TAGS = (EtherType.VLAN, EtherType.VLAN_AD)


class Template:
    """A frame whose fields can be changed; ``fields`` says which it has, with place, size and what sums they are in."""

    def __init__(self, frame: bytes) -> None:
        self._frame = bytes(frame)
        off, kind = ETH_HLEN, int.from_bytes(frame[12:14], "big")
        while kind in _TAGS:
            kind, off = int.from_bytes(frame[off + 2 : off + 4], "big"), off + VLAN_HLEN
        # name -> (offset, size, in the header's sum, in the payload's sum)
        self.fields: dict[str, tuple[int, int, bool, bool]] = {}
        if kind == EtherType.IP and len(frame) >= off + IP_HLEN:
            protocol, payload = frame[off + 9], off + (frame[off] & 15) * 4
            self._ip_check = off + 10
            self.fields |= {
                "ident": (off + 4, 2, True, False),
                "ttl": (off + 8, 1, True, False),
                "src": (off + 12, 4, True, True),
                "dst": (off + 16, 4, True, True),
            }
        elif kind == EtherType.IPV6 and len(frame) >= off + IP6_HLEN:
            protocol, payload = frame[off + 6], off + IP6_HLEN
            self._ip_check = 0
            self.fields |= {
                "ttl": (off + 7, 1, False, False),
                "src": (off + 8, 16, False, True),
                "dst": (off + 24, 16, False, True),
            }
        else:
            raise InputError("", f"a template is a frame of IPv4 or IPv6, have EtherType {kind:#06x}")
        self._check = self._payload(protocol, payload)

    def _payload(self, protocol: int, off: int) -> int:
        # fields of the payload; where its sum is, 0 for none
        frame = self._frame
        if protocol not in (IpProto.TCP, IpProto.UDP) or len(frame) < off + _CHECK_AT[IpProto(protocol)] + 2:
            return 0
        self.fields |= {"sport": (off, 2, False, True), "dport": (off + 2, 2, False, True)}
        if protocol == IpProto.TCP:
            self.fields |= {"seq": (off + 4, 4, False, True), "ack": (off + 8, 4, False, True)}
        at = off + _CHECK_AT[IpProto(protocol)]
        # a datagram without a sum stays one
        return at if protocol == IpProto.TCP or frame[at : at + 2] != b"\0\0" else 0

    def frame(self, **values: int) -> bytes:
        """Return the frame with other values in some fields: KeyError for one that it does not have."""
        out = bytearray(self._frame)
        header = payload = 0
        for name, value in values.items():
            off, size, in_header, in_payload = self.fields[name]
            new = value.to_bytes(size, "big")
            # an odd byte lies in the upper half of its word
            changed = _words(new) - _words(bytes(out[off : off + size]))
            out[off : off + size] = new
            header += changed if in_header else 0
            payload += changed if in_payload else 0
        if header and self._ip_check:
            _update(out, self._ip_check, header)
        if payload and self._check:
            _update(out, self._check, payload)
            if out[self._check : self._check + 2] == b"\0\0" and "seq" not in self.fields:
                out[self._check : self._check + 2] = b"\xff\xff"
        return bytes(out)


def _words(data: bytes) -> int:
    if len(data) == 1:
        return data[0] << 8
    return sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))


def _update(out: bytearray, at: int, change: int) -> None:
    # HC' = ~(~HC + ~m + m')
    total = (~int.from_bytes(out[at : at + 2], "big") & 0xFFFF) + change
    # of the two zeroes that of a sum of something, which is never all zero
    total = total % 0xFFFF or 0xFFFF
    out[at : at + 2] = (~total & 0xFFFF).to_bytes(2, "big")
