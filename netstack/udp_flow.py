"""Flows of UDP and floods: datagrams of random sizes at random times, SYNs of many sources; all from one seed.

A ``UdpFlow`` goes through the sockets of both hosts: the first 16 bytes of a datagram are its number and the time at
which it was sent, so that the receiver knows what was lost, what came late and how long the way took. Datagrams of less
than 16 bytes are counted only. A ``Flood`` leaves a device below the stack, as frames made from a template.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from struct import Struct
from typing import TYPE_CHECKING

from ebpfsim.errors import InputError, KernelError
from ebpfsim.rng import Stream
from ebpfsim.uapi.net import IpProto
from netstack.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from netstack.distribution import Distribution
from netstack.headers import BROADCAST_MAC, IP_HLEN, IpHdr, format_ip, format_ip6, ip_bytes
from netstack.sock import Datagram
from netstack.template import Template
from netstack.traffic import Generator

if TYPE_CHECKING:
    from netstack.device import NetDevice
    from netstack.net import Net

__all__ = ["Flood", "UdpFlow", "shown", "syn_template"]

MAX_PAYLOAD = 65507
_STAMP = Struct("!QQ")
_NS_PER_S = 1_000_000_000


def shown(address: int) -> str:
    """Return the text of an address; one of more than 32 bits is of IPv6."""
    return f"[{format_ip6(address)}]" if address >> 32 else format_ip(address)


class _Sink(list[Datagram]):
    # a list that keeps nothing: whoever appends calls
    def __init__(self, take: Callable[[Datagram], None]) -> None:
        super().__init__()
        self._take = take

    def append(self, item: Datagram) -> None:
        """Hand a datagram on."""
        self._take(item)


class UdpFlow:
    """Datagrams from one host to a port of another one.

    ``size`` and ``every`` are drawn for each datagram; with ``rate_bps`` the distance is as long as the payload takes
    at that rate. It ends after ``count`` datagrams or ``for_ns``, whichever is first. ``sent``, ``datagrams``,
    ``received`` (bytes), ``lost``, ``reordered``, ``refused`` (calls that failed) and ``delay_*`` tell what became of
    it.
    """

    def __init__(
        self,
        source: "Net",
        target: "Net | None",
        address: int,
        port: int,
        *,
        size: Distribution,
        every: Distribution | None = None,
        rate_bps: int = 0,
        count: int | None = None,
        for_ns: int | None = None,
        start_ns: int = 0,
        name: str = "",
    ) -> None:
        if every is None and rate_bps <= 0:
            raise InputError("", "a flow of UDP needs a rate or a distance between datagrams")
        if (size.highest or 0) > MAX_PAYLOAD:
            raise InputError("", f"a datagram has at most {MAX_PAYLOAD} bytes")
        if every is not None and every.highest == 0:
            raise InputError("", "datagrams without any time between them")
        self.source, self.target, self.address, self.port = source, target, address, port
        self.size, self.every, self.rate_bps, self.count = size, every, rate_bps, count
        self.start_ns = max(start_ns, source.clock.now_ns)
        self.end_ns = None if for_ns is None else self.start_ns + for_ns
        self.sent = self.datagrams = self.received = self.sent_bytes = self.reordered = self.refused = 0
        self.delay_sum_ns = self.delay_max_ns = 0
        self.delay_min_ns: int | None = None
        self.done_ns = -1
        self._latest = -1
        self._stamped = 0
        # of a rate: what a bit was shorter than a nanosecond is not lost
        self._debt = 0
        self._random: Stream = source.rng.stream(f"flow {name or shown(address)}:{port}")
        self._send: Callable[[bytes], object] | None = None
        if target is not None:
            # an application that reads at once; EADDRINUSE when somebody else has the port
            if address >> 32:
                target.udp_socket6("::", port).received = _Sink(self._take)
            else:
                target.udp_socket("0.0.0.0", port).received = _Sink(self._take)
        source.clock.call_at(self.start_ns, self._step)

    def __repr__(self) -> str:
        return f"<UdpFlow {self.source.name} > {shown(self.address)}:{self.port} {self.datagrams}/{self.sent}>"

    @property
    def lost(self) -> int:
        """Datagrams that have not come (yet)."""
        return self.sent - self.datagrams

    @property
    def ended(self) -> bool:
        """Whether the last datagram has been sent."""
        return self.done_ns >= 0

    @property
    def delay_mean_ns(self) -> int:
        """How long a datagram was on its way, on average."""
        return self.delay_sum_ns // self._stamped if self._stamped else 0

    def _take(self, datagram: Datagram) -> None:
        self.datagrams += 1
        self.received += len(datagram.data)
        if len(datagram.data) >= _STAMP.size:
            number, sent_ns = _STAMP.unpack_from(datagram.data)
            self.reordered += number < self._latest
            self._latest = max(self._latest, number)
            delay = datagram.time_ns - sent_ns
            self._stamped += 1
            self.delay_sum_ns += delay
            self.delay_max_ns = max(self.delay_max_ns, delay)
            self.delay_min_ns = delay if self.delay_min_ns is None else min(self.delay_min_ns, delay)

    def _step(self) -> None:
        net, now_ns = self.source, self.source.clock.now_ns
        if (self.count is not None and self.sent >= self.count) or (self.end_ns is not None and now_ns >= self.end_ns):
            self.done_ns = now_ns
            return
        if self._send is None:
            self._send = self._sender()
        size = min(self.size.draw(self._random), MAX_PAYLOAD)
        stamp = _STAMP.pack(self.sent, now_ns) if size >= _STAMP.size else b""
        try:
            self._send(stamp + bytes(size - len(stamp)))
        except KernelError:
            self.refused += 1
        self.sent += 1
        self.sent_bytes += size
        net.clock.call_at(now_ns + self._distance(size), self._step)

    def _sender(self) -> Callable[[bytes], object]:
        address, port, cpu = self.address, self.port, self.source.cpus[0]
        if address >> 32:
            sock6, text = self.source.udp_socket6(), format_ip6(address)
            return lambda data: sock6.sendto(data, text, port, cpu)
        sock = self.source.udp_socket()
        return lambda data: sock.send_to(data, address, port, cpu)

    def _distance(self, size: int) -> int:
        if self.every is not None:
            return max(1, self.every.draw(self._random))
        whole, self._debt = divmod(size * 8 * _NS_PER_S + self._debt, self.rate_bps)
        return max(1, whole)


class Flood:
    """Frames made from a template, out of a device, past its host's stack; ``sent`` counts them.

    ``sources`` is the network from which source addresses are drawn, ports and sequence numbers are random.
    """

    def __init__(
        self,
        device: "NetDevice",
        template: Template,
        *,
        every: Distribution,
        sources: IPv4Network | None = None,
        count: int | None = None,
        for_ns: int | None = None,
        start_ns: int = 0,
        name: str = "",
    ) -> None:
        if count is None and for_ns is None:
            raise InputError("", "a flood has a count or a time after which it ends")
        if every.highest == 0:
            raise InputError("", "frames without any time between them")
        self.device, self.template, self.every, self.sources = device, template, every, sources
        self.start_ns = max(start_ns, device.net.clock.now_ns)
        self.end_ns = None if for_ns is None else self.start_ns + for_ns
        self.count = count
        self._random: Stream = device.net.rng.stream(f"flood {name or device.full_name}")
        self.generator = Generator(device, self._frames())

    @property
    def sent(self) -> int:
        """How many frames have left."""
        return self.generator.sent

    @property
    def ended(self) -> bool:
        """Whether the last one has left."""
        return self.generator.done

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        random, at_ns, number = self._random, self.start_ns, 0
        first = int(self.sources.network_address) if self.sources is not None else 0
        room = self.sources.num_addresses if self.sources is not None else 0
        random_seq = "seq" in self.template.fields
        while (self.count is None or number < self.count) and (self.end_ns is None or at_ns < self.end_ns):
            values = {"sport": random.randrange(1024, 0x10000), "ident": random.getrandbits(16)}
            if room:
                values["src"] = first + random.randrange(room)
            if random_seq:
                values["seq"] = random.getrandbits(32)
            yield at_ns, self.template.frame(**values)
            at_ns += max(1, self.every.draw(random))
            number += 1


def syn_template(device: "NetDevice", address: int, port: int, dest_mac: bytes | None) -> Template:
    """Return the frame of a SYN to an address, with the options that Linux sends without timestamps (RFC 9293)."""
    # MSS 1460, SACK permitted, window scale 7
    options = bytes.fromhex("020405b4 01010402 01030307")
    tcp = Struct("!HHIIBBHHH").pack(1024, port, 0, 0, (20 + len(options)) // 4 << 4, 0x02, 64240, 0, 0) + options
    source = device.addresses[0].address if device.addresses else 0
    check = csum_fold(csum_partial(tcp, csum_tcpudp_nofold(source, address, len(tcp), IpProto.TCP)))
    tcp = tcp[:16] + check.to_bytes(2, "big") + tcp[18:]
    packet = ip_bytes(IpHdr(0x45, 0, IP_HLEN + len(tcp), 0, 0x4000, 64, 6, 0, source, address), tcp)
    return Template((dest_mac or BROADCAST_MAC) + device.mac + b"\x08\x00" + packet)
