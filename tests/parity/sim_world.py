"""The simulated kernel behind the interface of ``live_world.LiveWorld``: one host with a namespace for each name."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ebpfsim import Simulation
from ebpfsim.loader import Object
from ebpfsim.syscall import Bpf
from ebpfsim.uapi.bpf import AttachType
from netstack.device import NetDevice
from netstack.headers import parse_ip, parse_mac
from netstack.soft_device import frame_skb

ATTACH = {"xdp": AttachType.XDP, "tcx_ingress": AttachType.TCX_INGRESS, "tcx_egress": AttachType.TCX_EGRESS}


class SimWorld:
    """Namespaces by name; devices are NAMESPACE/DEVICE."""

    def __init__(self, **config: Any) -> None:
        self.sim = Simulation(seed=1)
        self.host = self.sim.host("h", **config)
        self.bpf: Bpf = self.host.bpf

    def close(self) -> None:
        pass

    def device(self, device: str) -> NetDevice:
        return self.host.device(device)

    def netns(self, name: str, sysctls: Mapping[str, int] | None = None) -> None:
        net = self.host.netns(name).net
        for sysctl, value in (sysctls or {}).items():
            net.sysctls[sysctl] = value

    def veth(self, a: str, b: str, mac: str, peer_mac: str, mtu: int = 1500) -> None:
        self.host.veth(a, b, mac=mac, peer_mac=peer_mac, mtu=mtu)

    def address(self, device: str, address: str) -> None:
        dev = self.device(device)
        dev.net.add_address(dev, address)

    def neigh(self, device: str, address: str, mac: str) -> None:
        dev = self.device(device)
        dev.net.neigh.add(dev, parse_ip(address), parse_mac(mac))

    def route(self, netns: str, to: str, via: str) -> None:
        self.host.netns(netns).net.add_route(to, via=via)

    def bridge(self, device: str, ports: Sequence[str], mac: str) -> None:
        netns, _ = device.split("/")
        self.host.bridge(device, [f"{netns}/{port}" for port in ports], mac=mac)

    def vxlan(self, device: str, mac: str, **options: Any) -> None:
        options["vni"] = options.pop("id", 0)
        self.host.vxlan(device, mac=mac, **options)

    def ifindex(self, device: str) -> int:
        return self.device(device).ifindex

    def load(self, netns: str, path: Path, rodata: Mapping[str, int]) -> Object:
        obj = self.host.netns(netns).open(path)
        for name, value in rodata.items():
            obj.rodata[name] = value
        obj.load()
        return obj

    def no_offload(self, device: str) -> None:
        pass

    def call(self, netns: str, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        bpf = self.host.netns(netns).bpf
        return getattr(bpf, function.__name__)(*args, **options)

    def attach(self, fd: int, device: str, hook: str, mode: str = "") -> None:
        netns, _ = device.split("/")
        flags = {"": 0, "generic": 2, "native": 4}[mode]
        self.host.netns(netns).bpf.link_create(fd, self.ifindex(device), ATTACH[hook], flags=flags)

    def capture(self, device: str) -> "Capture":
        return Capture(self, device)

    def send(self, device: str, frames: Sequence[bytes], captures: Sequence["Capture"]) -> None:
        dev, clock = self.device(device), self.sim.clock

        def packet_snd(frame: bytes) -> None:
            # past the egress of tc, as what a packet socket sends
            dev.dev_queue_xmit(frame_skb(frame, dev), dev.net.cpus[0])

        for number, frame in enumerate(frames):
            clock.call_at(clock.now_ns + 10_000 * number, partial(packet_snd, frame))
        self.sim.run()

    def counters(self, device: str) -> dict[str, int]:
        return self.device(device).stats.as_dict()

    def ethtool(self, device: str) -> dict[str, int]:
        return self.device(device).ethtool_stats()


class Capture:
    """Frames that a device has received, as a packet socket sees them: after native XDP, before generic XDP."""

    def __init__(self, world: SimWorld, device: str) -> None:
        self.dev, self._records = world.device(device), world.sim.recorder.packets
        self._start = len(self._records)

    def drain(self) -> None:
        pass

    @property
    def frames(self) -> list[bytes]:
        native = self.dev.xdp.native is not None
        return [
            record.data
            for record in self._records[self._start :]
            if (record.host, record.device, record.direction) == (self.dev.net.name, self.dev.name, "in")
            and (not native or record.verdict in ("", "XDP_PASS"))
            # skb_vlan_untag() drops before packet sockets are asked
            and not (record.data[12:14] in (b"\x81\0", b"\x88\xa8") and len(record.data) < 20)
        ]

    def close(self) -> None:
        pass
