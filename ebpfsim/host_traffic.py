"""Traffic that a host makes, in a line each: flows of UDP and TCP through its stack, floods past it.

::

    flow = a.udp_flow("b:53", rate="10Mbit", size={"uniform": [64, 1400]}, duration="1s")
    web = a.request_flow("10.0.0.2:80", count=1000, response={"pareto": [1000, 1.3]}, think={"exponential": "1ms"})
    a.syn_flood("b:80", every={"exponential": "10us"}, sources="10.9.0.0/16", count=10_000)
    copy = a.bulk_flow("b:5001", size=1_000_000)

The other end is ADDRESS:PORT, [ADDRESS]:PORT or HOST:PORT, which is that host's first address. Sizes and times are
numbers, durations or distributions by name (``netstack.distribution``), drawn from the simulation's seed.
"""

from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING, NamedTuple

from ebpfsim.clock import parse_duration, parse_rate
from ebpfsim.errors import InputError, NotModelled
from ebpfsim.suggest import did_you_mean
from netstack.distribution import Distribution
from netstack.headers import format_ip
from netstack.headers6 import is_link_local
from netstack.net import Net
from netstack.request_flow import RequestFlow
from netstack.tcp_flow import BulkFlow
from netstack.udp_flow import Flood, UdpFlow, syn_template

if TYPE_CHECKING:
    from ebpfsim.simulation import Host, Simulation
    from netstack.device import NetDevice

__all__ = ["Flow", "HostTraffic", "Resolved", "find_end"]

Flow = BulkFlow | UdpFlow | RequestFlow | Flood
# 5, "10us", {"exponential": "1ms"}, or a Distribution
Drawn = int | str | Mapping[str, object] | Distribution


class Resolved(NamedTuple):
    """The other end of a flow: whose address it is (None: nobody's), the address and the port."""

    net: Net | None
    address: int
    port: int


def find_end(sim: "Simulation", name: str, port: int, *, like: "Host | None" = None, needed: bool = True) -> Resolved:
    """Return whom an address or a host's name stands for; ``like`` is asked first. InputError when nobody has it."""
    nets = [net for host in sim.hosts.values() for net in (host.net, *host.net.namespaces.values())]
    if name in sim.hosts:
        return Resolved(sim.hosts[name].net, _first_address(sim.hosts[name].net, name), port)
    try:
        address = ip_address(name)
    except ValueError:
        raise InputError("", f"there is no host '{name}'{did_you_mean(name, sim.hosts)}") from None
    owners = [
        net
        for net in ([like.net] if like is not None else []) + nets
        if (net.fib.is_local(int(address)) if address.version == 4 else net.ipv6.is_local(int(address)))
    ]
    if not owners and needed:
        raise InputError("", f"no host has the address {name}")
    return Resolved(owners[0] if owners else None, int(address), port)


def _first_address(net: Net, name: str) -> int:
    # of IPv4; of IPv6, where a host has no other
    devices = [dev for dev in net.devices.values() if not dev.loopback]
    for dev in devices:
        if dev.addresses:
            return dev.addresses[0].address
    for dev in devices:
        known = net.ipv6.devices.get(dev.ifindex)
        for address, _ in known.addresses if known is not None else ():
            if not is_link_local(address):
                return address
    raise InputError("", f"host '{name}' has no address")


class HostTraffic:
    """The part of ``Host`` that makes traffic."""

    sim: "Simulation"
    net: Net

    def device(self, name: str) -> "NetDevice":
        """Return a device by its name; KernelError ENODEV."""
        raise NotImplementedError

    def bulk_flow(
        self, to: str, *, size: int | None = None, congestion: str = "", at: str | int | None = None
    ) -> BulkFlow:
        """Send ``size`` bytes over TCP as fast as it goes (without end, if left out), which are read at once."""
        end = self._end(to)
        assert end.net is not None
        return BulkFlow(self.net, end.net, end.address, end.port, size, congestion=congestion, start_ns=self._at(at))

    def udp_flow(
        self,
        to: str,
        *,
        size: Drawn = 1000,
        rate: str | int | None = None,
        every: Drawn | None = None,
        count: int | None = None,
        duration: str | int | None = None,
        at: str | int | None = None,
        label: str = "",
    ) -> UdpFlow:
        """Send datagrams at a rate of payload, or one ``every`` so often, ``count`` of them or for a ``duration``."""
        end = self._end(to)
        return UdpFlow(
            self.net, end.net, end.address, end.port, size=_drawn(size, _number),
            every=None if every is None else _drawn(every, _time), rate_bps=0 if rate is None else parse_rate(rate),
            count=count, for_ns=None if duration is None else parse_duration(duration), start_ns=self._at(at),
            name=label,
        )  # fmt: skip

    def request_flow(
        self,
        to: str,
        *,
        count: int,
        request: Drawn = 100,
        response: Drawn = 1000,
        think: Drawn = 0,
        clients: int = 1,
        per_connection: int | None = None,
        congestion: str = "",
        at: str | int | None = None,
        label: str = "",
    ) -> RequestFlow:
        """Ask a server over TCP ``count`` times, by ``clients`` connections that take turns."""
        end = self._end(to)
        assert end.net is not None
        return RequestFlow(
            self.net, end.net, end.address, end.port, request=_drawn(request, _number),
            response=_drawn(response, _number), think=_drawn(think, _time), count=count, clients=clients,
            per_connection=per_connection, congestion=congestion, start_ns=self._at(at), name=label,
        )  # fmt: skip

    def syn_flood(
        self,
        to: str | tuple[int, int],
        *,
        every: Drawn,
        sources: str | IPv4Network | None = None,
        device: str | None = None,
        count: int | None = None,
        duration: str | int | None = None,
        at: str | int | None = None,
        label: str = "",
    ) -> Flood:
        """Send SYNs from addresses of a network and random ports, out of a device and past this host's stack.

        The device is by default that of the route to the address.
        """
        address, port = to if isinstance(to, tuple) else self._end(to, needed=False)[1:]
        if address >> 32:
            raise NotModelled("floods of IPv6", "host.send() with a packet of scapy's")
        route = self.net.fib.lookup(address)
        if device is None and route is None:
            raise InputError("", f"no route to {format_ip(address)}", "device: eth0")
        dev = self.device(device) if device is not None else route.dev if route is not None else None
        assert dev is not None
        hop = route.gateway if route is not None and route.gateway else address
        template = syn_template(dev, address, port, self.sim.owners().get(hop))
        network = IPv4Network(sources) if isinstance(sources, str) else sources
        return Flood(
            dev, template, every=_drawn(every, _time), sources=network, count=count,
            for_ns=None if duration is None else parse_duration(duration), start_ns=self._at(at), name=label,
        )  # fmt: skip

    def _end(self, to: str, *, needed: bool = True) -> Resolved:
        name, _, port = to.rpartition(":")
        if not name or not port.isdigit() or not 0 < int(port) < 0x10000:
            raise InputError("", f"'{to}' is not ADDRESS:PORT or HOST:PORT", "10.0.0.2:80")
        return find_end(self.sim, name.removeprefix("[").removesuffix("]"), int(port), needed=needed)

    def _at(self, at: str | int | None) -> int:
        return self.sim.clock.now_ns if at is None else parse_duration(at)


def _drawn(value: Drawn, unit: Callable[[object], float]) -> Distribution:
    return value if isinstance(value, Distribution) else Distribution.parse(value, unit)


def _time(value: object) -> int:
    return parse_duration(value)  # type: ignore[arg-type]


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError("", f"{value!r} is not a number of bytes")
    return value
