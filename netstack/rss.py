"""Receive-side scaling: the Toeplitz hash over addresses and ports of IPv4 packets.

Function and key are those of Microsoft's "Verifying the RSS Hash Calculation", to which cards are built. Linux draws a
random key at boot (netdev_rss_key_fill); here it is the same in every run.
TCP and UDP packets that are no fragments are hashed over addresses and ports, other IPv4 packets over addresses.
Differs: frames that are not IPv4 hash to 0, and UDP includes its ports, which some cards leave out until told.
"""

from functools import cache

from ebpfsim.uapi.net import EtherType, IpProto

__all__ = ["RSS_KEY", "rss_hash", "toeplitz"]

RSS_KEY = bytes.fromhex(
    "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"
)  # fmt: skip

_ETH_P_IP = int(EtherType.IP).to_bytes(2, "big")
_PORTS = (IpProto.TCP, IpProto.UDP)


def toeplitz(data: bytes) -> int:
    """Return the 32-bit hash of at most 36 bytes: for each set bit, the 32 bits of the key that begin at its place."""
    result = 0
    for place, byte in enumerate(data):
        result ^= _byte_table(place)[byte]
    return result


def rss_hash(frame: bytes) -> int:
    """Return the hash of a frame's flow."""
    if frame[12:14] != _ETH_P_IP or len(frame) < 34:
        return 0
    l4_off = 14 + (frame[14] & 15) * 4
    fragment = int.from_bytes(frame[20:22], "big") & 0x3FFF
    if frame[23] in _PORTS and not fragment and len(frame) >= l4_off + 4:
        return toeplitz(frame[26:34] + frame[l4_off : l4_off + 4])
    return toeplitz(frame[26:34])


@cache
def _byte_table(place: int) -> tuple[int, ...]:
    # what each value of the byte at that place contributes
    key = int.from_bytes(RSS_KEY, "big")
    windows = [key >> (len(RSS_KEY) * 8 - 32 - place * 8 - bit) & 0xFFFF_FFFF for bit in range(8)]
    table = []
    for byte in range(256):
        value = 0
        for bit, window in enumerate(windows):
            if byte & 0x80 >> bit:
                value ^= window
        table.append(value)
    return tuple(table)
