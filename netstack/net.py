"""The network stack of one host: devices, addresses, routes, sockets, counters (``struct net``, one namespace).

::

    net = Net(kernel, host_index=0)
    eth0 = net.add_nic("eth0", "10.0.0.1/24")
    connect(eth0, other.devices["eth0"], rate_bps=10**9, delay_ns=50_000)
    sock = net.udp_socket("10.0.0.1", 53)
    net.add_route("default", via="10.0.0.254")

Here the parts are put together; what each does is in its own module. A host speaks IPv6 on the devices that have
such addresses.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv4Network, IPv6Network, ip_interface, ip_network
from typing import Any, Protocol, TypeVar

from ebpfsim.cpu import Cpu
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, KernelError
from ebpfsim.jit.engine import execute
from ebpfsim.maps.devmap import DevmapMap
from ebpfsim.maps.map import Map
from ebpfsim.objects import FdTable, IdTable, KernelObject
from ebpfsim.progs.prog import Prog
from ebpfsim.progs.runtime import Runtime
from ebpfsim.recorder import Note, PacketRecord
from ebpfsim.uapi.bpf import MapType
from ebpfsim.uapi.net import EtherType, IpProto
from hooks.cgroup import Cgroup, CgroupTree
from hooks.dispatcher import Dispatcher
from hooks.netfilter import Netfilter
from hooks.netns import NetNs
from netstack.addrconf6 import Addrconf
from netstack.arp import arp_error, arp_request
from netstack.cgroup_bpf import CgroupBpf
from netstack.cpumap import CpuMapThread
from netstack.devconf import DevConf
from netstack.device import IfAddress, NetDevice
from netstack.drop_reasons import SkbDropReason
from netstack.fib import MAIN_TABLE, Fib, Route, RouteType, Rule
from netstack.fib6 import Rule6
from netstack.functions import stack_functions
from netstack.headers import ZERO_MAC, IcmpHdr, format_ip, format_mac, parse_ip, parse_mac
from netstack.headers6 import parse_ip6
from netstack.icmp import IcmpSock
from netstack.icmpv6 import Icmp6Limits
from netstack.inet_hashtables import InetHashinfo
from netstack.ip6_fragment import Frag6Queues
from netstack.ip_fragment import FragQueues
from netstack.ipv6 import Ipv6
from netstack.loopback import Loopback
from netstack.marks import bind_functions
from netstack.mld import Mld
from netstack.napi import Backlog, SoftnetData
from netstack.ndisc import nd_error, nd_request
from netstack.neigh import AF_INET6, NeighTable
from netstack.nic import DEFAULT_RING, Nic
from netstack.path_mtu import PathMtu
from netstack.rx import PacketHandler
from netstack.sk_filter import SkFilter
from netstack.skb import SkBuff
from netstack.snmp import Snmp
from netstack.sock import PingSocket, SocketTable, UdpSocket
from netstack.sysctl import read_sysctls
from netstack.tc import Tc
from netstack.tcp_cong import TcpCongestion
from netstack.tcp_sock_ops import SockOps
from netstack.udp6 import SocketTable6, UdpSocket6
from netstack.xdp import Xdp
from netstack.xsk import XskPool
from tracing.net_records import NET_TRACEPOINTS

__all__ = ["Net", "NetKernel"]

PROC_DYNAMIC_FIRST = 0xF000_0000  # of inode numbers of namespaces (fs/proc/generic.c)

_AnyNetwork = TypeVar("_AnyNetwork", IPv4Network, IPv6Network)
ErrorHandler = Callable[[SkBuff, int, Cpu], object]

DEFAULT_MTU = 1500  # ETH_DATA_LEN
MIN_MTU, MAX_MTU = 68, 65535  # ETH_MIN_MTU, ETH_MAX_MTU, include/uapi/linux/if_ether.h
IFNAMSIZ = 16
_ROUTE_TYPES = {
    each.name.lower(): each
    for each in (RouteType.UNICAST, RouteType.UNREACHABLE, RouteType.PROHIBIT, RouteType.BLACKHOLE)
}
MAX_WEIGHT = 256  # rtnh_hops, include/uapi/linux/rtnetlink.h, holds it less one
# 02: locally administered, with the number of the namespace above; four bytes for the host, one for the device
MAX_AUTO_NAMESPACES, MAX_AUTO_HOSTS, MAX_AUTO_DEVICES = 63, (1 << 32) - 1, 255


class NetKernel(Runtime, Protocol):
    """What the network needs of the simulated kernel around it."""

    fds: FdTable
    progs: IdTable[Prog]
    links: IdTable[KernelObject]
    xdp_dispatcher: Dispatcher
    cgroups: CgroupTree
    netns: NetNs
    netfilter: Netfilter

    @property
    def maps(self) -> IdTable[Map]:
        """Its maps."""
        ...

    def device_by_ifindex(self, ifindex: int) -> NetDevice | None:
        """Return the device with that number, or None."""
        ...

    @property
    def functions(self) -> Any:
        """Its functions."""
        ...

    @property
    def tracepoints(self) -> Any:
        """Its tracepoints."""
        ...

    def net_namespace_address(self) -> int:
        """Return where the first ``struct net`` lies, 0 when no task has one."""
        ...

    def interrupt(self, cpu: Cpu, name: str, handler: Callable[[], None]) -> None:
        """Let a device's interrupt come, which ``handler`` handles."""
        ...

    def forget_owner(self, kind: MapType, address: int) -> None:
        """Remove what maps of a type have of a socket that goes."""
        ...


def _network(kind: Callable[[str], _AnyNetwork], text: str, everything: str) -> _AnyNetwork:
    # of one version of IP; 'default' is everything of it
    try:
        return kind(everything if text in ("", "default", "0.0.0.0/0", "::/0") else text)
    except ValueError as error:
        raise InputError("", f"network {text!r}: {error}", "networks and gateways of one version of IP") from None


class Net:
    """One host's stack; ``host_index`` (from 0) makes MAC addresses. ``devices`` holds ``lo`` from the start.

    A further network namespace of the host is made with its first one, ``init_net``, and a name; records call it
    HOST/NAME. What belongs to CPUs and programs is common to all of them.
    """

    def __init__(
        self, kernel: NetKernel, host_index: int = 0, *, init_net: "Net | None" = None, netns: str = ""
    ) -> None:
        self.kernel = kernel
        self.init_net = init_net if init_net is not None else self
        self.netns = netns
        self._hooks: tuple[NetNs, Netfilter] | None = None
        self.name = f"{kernel.name}/{netns}" if netns else kernel.name
        self.clock = kernel.clock
        self.rng = kernel.rng
        self.recorder = kernel.recorder
        self.costs = kernel.costs
        self.cpus = kernel.cpus
        self.host_index = host_index
        self.sysctls = read_sysctls(kernel.config.sysctl)
        self.snmp = Snmp()
        self.drops: Counter[str] = Counter()
        # buffers of AF_XDP sockets by device and queue
        self.xsk_pools: dict[tuple[int, int], XskPool] = {}
        # "stack.rx" covers the driver and the skb, which are charged where they happen
        self.stack_rx_ps = max(
            0, kernel.costs.ps("stack.rx") - kernel.costs.ps("xdp.drop.driver") - kernel.costs.ps("skb.alloc")
        )
        if init_net is not None:
            self._share(init_net)
        else:
            self._begin()
        functions = self.functions
        self.packet_handlers: dict[int, PacketHandler] = {
            EtherType.IP: lambda skb, cpu: functions.ip_rcv(cpu, skb, skb.dev, None, skb.dev),
            EtherType.ARP: lambda skb, cpu: functions.arp_rcv(cpu, skb, skb.dev, None, skb.dev),
            EtherType.IPV6: lambda skb, cpu: functions.ipv6_rcv(cpu, skb, skb.dev, None, skb.dev),
        }
        self.protocols: dict[int, PacketHandler] = {
            IpProto.ICMP: lambda skb, cpu: functions.icmp_rcv(cpu, skb),
            IpProto.TCP: lambda skb, cpu: functions.tcp_v4_rcv(cpu, skb),
            IpProto.UDP: lambda skb, cpu: functions.udp_rcv(cpu, skb),
        }
        self.protocols6: dict[int, PacketHandler] = {
            IpProto.ICMPV6: lambda skb, cpu: functions.icmpv6_rcv(cpu, skb),
            IpProto.TCP: lambda skb, cpu: functions.tcp_v6_rcv(cpu, skb),
            IpProto.UDP: lambda skb, cpu: functions.udpv6_rcv(cpu, skb),
        }
        # who is told of an ICMP error, by the protocol of the packet that it quotes: err_handler()
        self.err_handlers: dict[int, ErrorHandler] = {
            IpProto.TCP: lambda skb, info, cpu: functions.tcp_v4_err(cpu, skb, info),
            IpProto.UDP: lambda skb, info, cpu: functions.udp_err(cpu, skb, info),
        }
        self.fib = Fib()
        self.fib.hash_policy = self.sysctls["net.ipv4.fib_multipath_hash_policy"]
        self.fib.hash_key = self.rng.stream(f"{self.name} multipath").randbytes(16)
        self.neigh = NeighTable(self, arp_request, arp_error)
        self.ipv6, self.addrconf, self.mld = Ipv6(self), Addrconf(self), Mld(self)
        self.neigh6 = NeighTable(self, nd_request, nd_error, AF_INET6)
        self.sockets6 = SocketTable6(self)
        self.icmp_sk, self.icmp6_limits = IcmpSock(self), Icmp6Limits(self)
        self.frags, self.frags6 = FragQueues(self), Frag6Queues(self)
        self._conf: dict[int, DevConf] = {}
        # redirects that were sent to a host: how many, and when the last
        self.redirects: dict[int, tuple[int, int]] = {}
        self.path_mtu, self.path_mtu6 = PathMtu(self, 4), PathMtu(self, 6)
        self.raw_sockets: list[object] = []
        # packet sockets, which see what comes and goes
        self.taps: list[Any] = []
        self.looking_for: UdpSocket | None = None
        self._loopback_routes: dict[int, Route] = {}
        self.sockets = SocketTable(self)
        self.tcp = InetHashinfo(self)
        self._cookies = 0
        self.devices: dict[str, NetDevice] = {}
        self._by_ifindex: dict[int, NetDevice] = {}
        self._last_ifindex = 0
        # what takes the datagrams of a port instead of a socket
        self.udp_tunnels: dict[int, Callable[[SkBuff, Cpu], None]] = {}
        self._ip_ids: Counter[tuple[int, int, int]] = Counter()
        self.loopback = Loopback(self, 1)
        self.register(self.loopback)
        self.add_address(self.loopback, "127.0.0.1/8")
        self.add_address(self.loopback, "::1/128")

    def _begin(self) -> None:
        kernel = self.kernel
        self.functions, self.tracepoints = kernel.functions, kernel.tracepoints
        self.functions.add_table(stack_functions())
        self.tracepoints.declare(*NET_TRACEPOINTS)
        # structures of lookups that are used again
        self.struct_rings: dict[str, object] = {}
        for cpu in self.cpus:
            bind_functions(cpu, self.functions)
        self.softnet = [SoftnetData(cpu, self.clock, self.costs) for cpu in self.cpus]
        limit = self.sysctls["net.core.netdev_max_backlog"]
        self.backlogs = [Backlog(softnet, limit) for softnet in self.softnet]
        for softnet in self.softnet:
            softnet.tracepoints, softnet.mem = self.tracepoints, kernel.mem
        self.xdp = Xdp(kernel, execute, kernel.xdp_dispatcher)
        self.tc = Tc(kernel, execute)
        self.tcp_cong, self.tcp_sock_ops = TcpCongestion(kernel), SockOps(kernel, execute)
        self.cgroup_bpf = CgroupBpf(kernel, execute)
        self.sk_filter = SkFilter(kernel, execute)
        # by name, without the first one
        self.namespaces: dict[str, Net] = {}
        self.cpumap_threads: dict[tuple[int, int], CpuMapThread] = {}
        self.devices_by_address: dict[int, NetDevice] = {}

    def _share(self, init_net: "Net") -> None:
        self.functions, self.tracepoints = init_net.functions, init_net.tracepoints
        self.struct_rings = init_net.struct_rings
        self.softnet, self.backlogs = init_net.softnet, init_net.backlogs
        self.xdp, self.tc = init_net.xdp, init_net.tc
        self.tcp_cong, self.tcp_sock_ops = init_net.tcp_cong, init_net.tcp_sock_ops
        self.cgroup_bpf, self.sk_filter = init_net.cgroup_bpf, init_net.sk_filter
        self.cpumap_threads = init_net.cpumap_threads
        self.namespaces, self.devices_by_address = init_net.namespaces, init_net.devices_by_address

    @property
    def cpu(self) -> Cpu:
        """The CPU of work that says nothing of it: the one whose softirq is under way, else the first."""
        return next((softnet.cpu for softnet in self.softnet if softnet.in_softirq), self.cpus[0])

    @property
    def struct_address(self) -> int:
        """Where ``struct net`` lies, 0 as long as the kernel has no tasks."""
        return self.kernel.net_namespace_address() if self is self.init_net else 0

    def conf(self, dev: NetDevice) -> DevConf:
        """Return the settings of IPv4 that hold for a device."""
        found = self._conf.get(dev.ifindex)
        if found is None:
            found = self._conf[dev.ifindex] = DevConf.of(self.sysctls, dev.name)
        return found

    def loopback_route(self, address: int) -> Route:
        """Return the route of a packet to an address of this host."""
        found = self._loopback_routes.get(address)
        if found is None:
            found = self._loopback_routes[address] = Route(address, 32, RouteType.LOCAL, self.loopback)
        return found

    def add_namespace(self, name: str) -> "Net":
        """Return a new network namespace of this host (``ip netns add``), which has ``lo``; EEXIST."""
        if not name or "/" in name or name.split() != [name]:
            raise InputError("", f"namespace name {name!r} has spaces or slashes, or is empty")
        if name in self.namespaces:
            raise KernelError("netns add", Errno.EEXIST, f"namespace '{name}' of host '{self.kernel.name}'")
        net = Net(self.kernel, self.host_index, init_net=self.init_net, netns=name)
        self.namespaces[name] = net
        self.kernel.netns.others = lambda: [other.hooks[0] for other in self.namespaces.values()]
        return net

    def add_nic(
        self,
        name: str,
        addresses: str | Iterable[str] = (),
        mac: str | bytes | None = None,
        mtu: int = DEFAULT_MTU,
        queues: int = 1,
        ring_size: int = DEFAULT_RING,
    ) -> Nic:
        """Return a new network card with addresses such as ``"10.0.0.1/24"``; without ``mac`` it gets its own."""
        self.check_new(name, mtu)
        ifindex = self.new_ifindex()
        nic = Nic(self, name, ifindex, self.new_mac(mac, ifindex), mtu, queues, ring_size)
        self.register(nic, addresses)
        return nic

    def check_new(self, name: str, mtu: int) -> None:
        """Raise InputError when there cannot be a new device of that name and MTU."""
        if not name or len(name) >= IFNAMSIZ or "/" in name or name.split() != [name]:
            raise InputError("", f"device name {name!r} is not 1 to 15 characters without spaces and slashes")
        if name in self.devices:
            raise InputError("", f"host '{self.name}' has a device '{name}' already")
        if not MIN_MTU <= mtu <= MAX_MTU:
            raise InputError("", f"mtu {mtu} of '{self.name}/{name}' is not between {MIN_MTU} and {MAX_MTU} bytes")

    def new_ifindex(self) -> int:
        """Return the number of the next device (``dev_index_reserve``)."""
        return self._last_ifindex + 1

    def new_mac(self, mac: str | bytes | None, ifindex: int) -> bytes:
        """Return a device's address: the one that was asked for, or one of its own."""
        address = parse_mac(mac) if mac is not None else self._auto_mac(ifindex)
        if address[0] & 1 or address == ZERO_MAC:
            raise InputError("", f"{format_mac(address)} is not the address of one device", "an even first byte")
        return address

    def register(self, dev: NetDevice, addresses: str | Iterable[str] = ()) -> None:
        """Enter a device (``register_netdevice``) and give it addresses."""
        self.devices[dev.name] = dev
        self._by_ifindex[dev.ifindex] = dev
        self._last_ifindex = max(self._last_ifindex, dev.ifindex)
        self.devices_by_address[dev.struct_address] = dev
        for text in (addresses,) if isinstance(addresses, str) else addresses:
            self.add_address(dev, text)

    def unregister(self, dev: NetDevice) -> None:
        """Let a device go (``unregister_netdevice``): its programs, routes and neighbours go with it."""
        dev.uninstall()
        for map_ in self.kernel.maps:
            if isinstance(map_, DevmapMap):
                map_.device_removed(dev)
        self.fib.remove_device(dev)
        self.ipv6.fib.remove_device(dev)
        self.neigh.remove_device(dev)
        self.neigh6.remove_device(dev)
        self.ipv6.devices.pop(dev.ifindex, None)
        del self.devices[dev.name], self._by_ifindex[dev.ifindex]

    def add_address(self, dev: NetDevice, text: str) -> None:
        """Give a device an address with its prefix length, and the routes that come with it (``ip addr add``)."""
        try:
            interface = ip_interface(text if "/" in text else "")
        except ValueError:
            problem = f"{text!r} is not an address with a prefix length"
            raise InputError("", problem, "for instance '10.0.0.1/24'") from None
        if not isinstance(interface, IPv4Interface):
            self.ipv6.add_address(dev, int(interface.ip), interface.network.prefixlen)
            return
        address = IfAddress(int(interface.ip), interface.network.prefixlen)
        if address in dev.addresses:
            raise KernelError("addr add", Errno.EEXIST, f"{text} on {dev.full_name}")
        dev.addresses.append(address)
        self.fib.add_address(dev, address)

    def add_route(
        self,
        to: str,
        *,
        via: str | None = None,
        dev: str | None = None,
        metric: int = 0,
        table: int = MAIN_TABLE,
        tos: int = 0,
        type: str = "unicast",  # noqa: A002 - a word of ip(8)
    ) -> None:
        """Add a static route (``ip route add TYPE TO via VIA dev DEV``); ``to`` is a prefix, an address or ``default``.

        A ``type`` of unreachable, prohibit or blackhole refuses packets.
        """
        kind = _ROUTE_TYPES.get(type)
        if kind is None:
            raise InputError("", f"a route of type '{type}'", f"one of {', '.join(_ROUTE_TYPES)}")
        try:
            any_network = "::/0" if via is not None and ":" in via else "0.0.0.0/0"
            network = ip_network(any_network if to == "default" else to)
        except ValueError as error:
            raise InputError("", f"route to {to!r}: {error}", "a prefix such as '10.1.0.0/16', or 'default'") from None
        if dev is not None and dev not in self.devices:
            raise KernelError("route add", Errno.ENODEV, f"host '{self.name}' has no device '{dev}'")
        if network.version != 4:
            self._add_route6(int(network.network_address), network.prefixlen, via, dev, metric, table, kind)
            return
        gateway = parse_ip(via) if via is not None else 0
        out: NetDevice = self.loopback
        if kind == RouteType.UNICAST:
            out = self.devices[dev] if dev is not None else self._dev_for(gateway, to)
        prefix = int(network.network_address)
        route = Route(prefix, network.prefixlen, kind, out, gateway, metric=metric, tos=tos)
        self.fib.add_route(route, table)

    def add_multipath_route(
        self, to: str, hops: Iterable[tuple[str, int]], *, metric: int = 0, table: int = MAIN_TABLE
    ) -> None:
        """Add a route with several next hops and their weights (``ip route add TO nexthop via A weight N ...``)."""
        hops = list(hops)
        if any(":" in via for via, _ in hops):
            self._add_multipath6("::/0" if to == "default" else to, hops, metric or 1024, table)
            return
        network = _network(IPv4Network, to, "0.0.0.0/0")
        prefix, prefixlen = int(network.network_address), network.prefixlen
        paths = []
        for via, weight in hops:
            if not 1 <= weight <= MAX_WEIGHT:
                raise KernelError("route add", Errno.EINVAL, f"weight {weight} of {via}")
            gateway = parse_ip(via)
            dev = self._dev_for(gateway, to)
            paths.append(Route(prefix, prefixlen, RouteType.UNICAST, dev, gateway, metric=metric, weight=weight))
        if not paths:
            raise KernelError("route add", Errno.EINVAL, f"{to}: no next hop")
        first = paths[0]
        route = Route(prefix, prefixlen, RouteType.UNICAST, first.dev, first.gateway, metric=metric, paths=tuple(paths))
        self.fib.add_route(route, table)

    def add_rule(
        self,
        priority: int,
        table: int,
        *,
        source: str = "",
        to: str = "",
        mark: int = 0,
        iif: str | None = None,
        family: int = 4,
    ) -> None:
        """Add a routing rule (``ip rule add from SOURCE to TO fwmark MARK iif IIF lookup TABLE priority N``).

        It is one of IPv6 when a network says so, or ``family`` is 6.
        """
        if family == 6 or ":" in source + to:
            of6, towards6 = (_network(IPv6Network, each, "::/0") for each in (source, to))
            nets = int(of6.network_address), of6.prefixlen, int(towards6.network_address), towards6.prefixlen
            self.ipv6.fib.add_rule(Rule6(priority, table, *nets, mark, 0xFFFF_FFFF if mark else 0, iif))
            return
        of, towards = (_network(IPv4Network, each, "0.0.0.0/0") for each in (source, to))
        ends = int(of.network_address), of.prefixlen, int(towards.network_address), towards.prefixlen
        self.fib.add_rule(Rule(priority, table, *ends, mark, 0xFFFF_FFFF if mark else 0, iif))

    def _add_route6(
        self, prefix: int, prefixlen: int, via: str | None, dev: str | None, metric: int, table: int, kind: RouteType
    ) -> None:
        gateway = parse_ip6(via) if via is not None else 0
        out = self.devices[dev] if dev is not None else None
        if kind != RouteType.UNICAST:
            out = self.loopback
        elif out is None:
            out = self._dev_for6(gateway, via)
        self.ipv6.add_route(prefix, prefixlen, out, gateway, metric or 1024, type_=kind, table=table)

    def _add_multipath6(self, to: str, hops: list[tuple[str, int]], metric: int, table: int) -> None:
        network = _network(IPv6Network, to, "::/0")
        prefix, prefixlen = int(network.network_address), network.prefixlen
        paths = tuple(
            Route(prefix, prefixlen, RouteType.UNICAST, dev, gateway, metric=metric, weight=weight)
            for dev, gateway, weight in (
                (self._dev_for6(parse_ip6(via), via), parse_ip6(via), weight) for via, weight in hops
            )
        )
        first = paths[0]
        route = Route(prefix, prefixlen, RouteType.UNICAST, first.dev, first.gateway, metric=metric, paths=paths)
        self.ipv6.fib.add(route, table)

    def _dev_for6(self, gateway: int, via: str | None) -> NetDevice:
        route = self.ipv6.fib.lookup(gateway) if gateway else None
        if route is None or route.type != RouteType.UNICAST:
            raise KernelError("route add", Errno.EHOSTUNREACH, f"{via}: no route to the gateway")
        return route.dev

    def udp_socket6(self, address: str = "::", port: int = 0) -> UdpSocket6:
        """Return a new IPv6 UDP socket bound to an address of the host (``::``: any) and a port (0: a free one)."""
        return self.sockets6.bind(address, port)

    def udp_socket(
        self, address: str = "0.0.0.0", port: int = 0, *, cgroup: Cgroup | None = None, reuseport: bool = False
    ) -> UdpSocket:
        """Return a new UDP socket bound to an address of the host (``0.0.0.0``: any) and a port (0: a free one).

        It belongs to ``cgroup``, by default the root, whose programs may refuse it or bind it elsewhere. With
        ``reuseport`` (SO_REUSEPORT) it may share both with others that have it.
        """
        return self.sockets.bind_udp(address, port, cgroup or self.kernel.cgroups.root, reuseport=reuseport)

    def next_cookie(self) -> int:
        """Return a number for a socket that is asked for its cookie (``__sock_gen_cookie``)."""
        self._cookies += 1
        return self._cookies

    def ping_socket(self) -> PingSocket:
        """Return a new socket for ICMP echo requests."""
        return self.sockets.ping()

    def dev_get_by_index(self, ifindex: int) -> NetDevice | None:
        """Return the device with that number, or None."""
        return self._by_ifindex.get(ifindex)

    def udp_err(
        self, saddr: int, sport: int, destination: tuple[int, int], errno: Errno, offender: int, cpu: Cpu
    ) -> None:
        """Tell the UDP socket that sent a datagram of an ICMP error about it (``udp_err``)."""
        found = self.sockets.udp_receivers(saddr, sport, broadcast=False, source=destination)
        if not found:
            self.snmp.inc("IcmpInErrors")
        for sock in found:
            sock.report_error(cpu.now_ns, errno, destination, offender)
            if sock.error_report is not None and sock.peer is not None:
                sock.error_report(cpu)

    def netif_rx(self, skb: SkBuff, cpu: Cpu | None = None) -> None:
        """Receive a packet through the backlog of a CPU, by default the first (``netif_rx``)."""
        self.functions.__dict__["__netif_rx"](cpu or self.cpu, skb)

    def select_addr(self, dev: NetDevice, destination: int) -> int:
        """Return the source address for a destination on a device's link (``inet_select_addr``); 0 without any."""
        for address in dev.addresses:
            if (address.address ^ destination) & address.mask == 0:
                return address.address
        if dev.addresses:
            return dev.addresses[0].address
        others = (
            other.addresses[0].address for other in self.devices.values() if other.addresses and not other.loopback
        )
        return next(others, 0)

    def broadcast_route(self, dev: NetDevice) -> Route:
        """Return the route of a packet to 255.255.255.255 that came in by a device."""
        source = dev.addresses[0].address if dev.addresses else 0
        return Route(0xFFFF_FFFF, 32, RouteType.BROADCAST, dev, prefsrc=source)

    def next_ip_id(self, saddr: int, daddr: int, protocol: int) -> int:
        """Return the next IPv4 id of a flow, counted from 1 (``ip_idents_reserve``)."""
        self._ip_ids[saddr, daddr, protocol] += 1
        return self._ip_ids[saddr, daddr, protocol] & 0xFFFF

    def echo_reply(self, skb: SkBuff, icmp: IcmpHdr, payload: bytes, cpu: Cpu) -> bool:
        """Give an echo reply to the socket that asked (``ping_rcv``); False when there is none."""
        sock = self.sockets.find_ping(icmp.un >> 16)
        if sock is None:
            return False
        source = int.from_bytes(skb.data[skb.network_header + 12 : skb.network_header + 16], "big")
        sock.deliver(cpu.now_ns, (source, icmp.un & 0xFFFF), payload)
        return True

    def count_drop(self, skb: SkBuff, reason: str, detail: str) -> None:
        """Account for a dropped packet: in its frame's record, or in a note when it never was a frame here."""
        if skb.record is not None:
            self.drop_frame(skb.record, reason)
            return
        self.drops[reason] += 1
        ends = skb.data[skb.network_header :][12:20]
        packet = f"{format_ip(int.from_bytes(ends[:4], 'big'))} > {format_ip(int.from_bytes(ends[4:], 'big'))}"
        if skb.protocol != EtherType.IP:
            packet = f"of EtherType {skb.protocol:#06x}"
        text = f"packet {packet} dropped: {reason}" + (f" ({detail})" if detail else "")
        self.recorder.notes.append(Note(self.clock.now_ns, self.name, "drop", text, {"reason": reason}))

    def drop_frame(self, record: PacketRecord, reason: SkbDropReason | str) -> None:
        """Account for a dropped frame by its record."""
        record.reason = reason.name if isinstance(reason, SkbDropReason) else reason
        self.drops[record.reason] += 1

    def _dev_for(self, gateway: int, to: str) -> NetDevice:
        if not gateway:
            raise InputError("", f"route to {to} on '{self.name}' names neither a gateway nor a device")
        route = self.fib.lookup(gateway)
        if route is None:
            raise KernelError("route add", Errno.ENETUNREACH, f"{to}: nexthop {format_ip(gateway)} has invalid gateway")
        return route.dev

    @property
    def hooks(self) -> "tuple[NetNs, Netfilter]":
        """What programs of this namespace are attached to; those of the first one belong to its kernel."""
        if not self.netns:
            return self.kernel.netns, self.kernel.netfilter
        if self._hooks is None:
            number, first = PROC_DYNAMIC_FIRST + list(self.namespaces).index(self.netns), self.kernel.netns
            self._hooks = NetNs(self.kernel, number, lambda: (first,)), Netfilter(self.kernel)
        return self._hooks

    def _auto_mac(self, ifindex: int) -> bytes:
        # ifindex 1 is lo, so that the first card of the first host has 02:00:00:00:01:01
        host, device = self.host_index + 1, ifindex - 1
        namespace = 0 if not self.netns else 1 + list(self.namespaces).index(self.netns)
        if host > MAX_AUTO_HOSTS or device > MAX_AUTO_DEVICES or namespace > MAX_AUTO_NAMESPACES:
            raise InputError("", f"no automatic MAC address for device {device} of '{self.name}'", "give it a mac")
        return bytes([2 + 4 * namespace]) + host.to_bytes(4, "big") + device.to_bytes(1, "big")
