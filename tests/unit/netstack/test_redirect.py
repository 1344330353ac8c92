"""Where redirected frames go: xdp_do_redirect, xdp_do_generic_redirect and kernel/bpf/devmap.c of v6.18."""

from typing import Any

import pytest

from ebpfsim.errors import InternalError
from ebpfsim.uapi.bpf import AttachType, MapType
from ebpfsim.uapi.flags import XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE
from netstack.bpf_net_context import bpf_net_ctx_clear, bpf_net_ctx_set

BROADCAST, EXCLUDE_INGRESS = 8, 16
EGRESS = AttachType.XDP_DEVMAP
FRAME = bytes(range(64))
NOWHERE = 99


class Bench:
    """Host r with eth1 to eth4 (ifindex 2 to 5), a sender on eth1 and a listener behind each of the others."""

    def __init__(self, lab: Any, mode: int) -> None:
        self.lab, self.mode = lab, mode
        self.r = lab.net("r")
        self.devices = [self.r.add_nic(f"eth{number}") for number in range(1, 5)]
        self.peers = [lab.net(f"h{number}").add_nic("eth0") for number in range(1, 5)]
        for device, peer in zip(self.devices, self.peers, strict=True):
            lab.connect(device, peer)
        self.ingress = self.devices[0]

    @property
    def native(self) -> bool:
        return self.mode == XDP_FLAGS_DRV_MODE

    def attach(self, text: str) -> Any:
        return self.lab.attach(self.ingress, text, self.mode)

    def devmap(self, kind: MapType = MapType.DEVMAP, **entries: Any) -> str:
        """A map of devices by name, at the indexes 0, 1 and so on; returns its address as a program writes it."""
        named = {device.name: device for device in (*self.devices, self.r.loopback)}
        rows = {index: (named[name], prog) for index, (name, prog) in enumerate(entries.items())}
        return f"{self.lab.devmap(self.r, kind, rows).address:#x}"

    def egress(self, text: str) -> Any:
        return self.lab.prog(self.r, text, EGRESS)

    def send(self, *frames: bytes) -> None:
        for frame in frames or (FRAME,):
            self.peers[0].inject(frame)
        self.lab.run()

    def arrived(self) -> dict[str, list[bytes]]:
        """The frames that came to each host, by the device of r that it is behind."""
        found = {f"eth{n}": self.lab.frames(peer.net, "in") for n, peer in enumerate(self.peers, 1)}
        return {name: [record.data for record in records] for name, records in found.items() if records}

    def sent(self) -> list[str]:
        """The devices of r in the order in which they sent."""
        return [p.device for p in self.lab.recorder.packets if (p.host, p.direction) == ("r", "out")]

    def reason(self) -> str:
        (record,) = self.lab.frames(self.r, "in", "eth1")
        return str(record.reason)

    def errors(self) -> list[str]:
        return [note.text for note in self.lab.recorder.notes if note.kind == "xdp_redirect_err"]


@pytest.fixture(params=[XDP_FLAGS_DRV_MODE, XDP_FLAGS_SKB_MODE], ids=["native", "generic"])
def bench(lab: Any, request: pytest.FixtureRequest) -> Bench:
    return Bench(lab, request.param)


@pytest.fixture
def native(lab: Any) -> Bench:
    return Bench(lab, XDP_FLAGS_DRV_MODE)


@pytest.fixture
def generic(lab: Any) -> Bench:
    return Bench(lab, XDP_FLAGS_SKB_MODE)


def to_map(devmap: str, key: int, flags: int = 0) -> str:
    return f"r1 = {devmap} ll; r2 = {key}; r3 = {flags}; call bpf_redirect_map; exit"


def test_to_an_interface(bench: Bench) -> None:
    link = bench.attach("r1 = 4; r2 = 0; call bpf_redirect; exit")
    bench.send()
    assert (bench.arrived(), link.verdicts, bench.reason()) == ({"eth3": [FRAME]}, {"XDP_REDIRECT": 1}, "")
    assert (bench.devices[2].stats.tx_packets, bench.ingress.stats.rx_packets) == (1, 1)


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH])
def test_to_an_entry_of_a_map(bench: Bench, kind: MapType) -> None:
    bench.attach(to_map(bench.devmap(kind, eth2=None, eth4=None), 1))
    bench.send()
    assert bench.arrived() == {"eth4": [FRAME]}


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH])
@pytest.mark.parametrize(("flags", "verdict"), [(0, "XDP_ABORTED"), (1, "XDP_DROP"), (2, "XDP_PASS"), (3, "XDP_TX")])
def test_a_missing_entry_gives_the_callers_verdict(bench: Bench, kind: MapType, flags: int, verdict: str) -> None:
    link = bench.attach(to_map(bench.devmap(kind, eth2=None), 5, flags))
    bench.send()
    assert link.verdicts == {verdict: 1}
    assert bench.arrived() == ({"eth1": [FRAME]} if flags == 3 else {})


@pytest.mark.parametrize(
    ("text", "errno", "said"),
    [
        (f"r1 = {NOWHERE}; r2 = 0; call bpf_redirect; exit", "EINVAL", f"to_ifindex={NOWHERE} err=-22 map_id=0"),
        # no helper was called
        ("r0 = 4; exit", "EBADRQC", "to_ifindex=0 err=-56 map_id=0"),
    ],
)
def test_no_target(bench: Bench, text: str, errno: str, said: str) -> None:
    """facts/kernel-6.18.md: REDIRECT without target: rx_dropped+1 native, +0 generic."""
    link = bench.attach(text)
    bench.send()
    assert (bench.arrived(), link.verdicts) == ({}, {"XDP_REDIRECT": 1})
    assert bench.reason() == f"XDP: redirect failed with {errno}"
    assert bench.ingress.stats.rx_dropped == (1 if bench.native else 0)
    (error,) = bench.errors()
    assert said in error
    assert error.startswith("prog_id=1 action=REDIRECT ifindex=2 ")


def test_a_frame_must_fit_the_target(lab: Any, bench: Bench) -> None:
    """xdp_ok_fwd_dev: MTU, Ethernet header and one VLAN tag."""
    target = bench.r.add_nic("small", mtu=100)
    lab.connect(target, lab.net("s").add_nic("eth0"))
    bench.attach(f"r1 = {target.ifindex}; r2 = 0; call bpf_redirect; exit")
    bench.send(bytes(118), bytes(119))
    assert target.stats.tx_packets == 1
    assert [p.reason for p in lab.frames(bench.r, "in", "eth1")] == ["", "XDP: redirect failed with EMSGSIZE"]


def test_loopback_takes_frames_of_generic_xdp_only(bench: Bench) -> None:
    """It has no ndo_xdp_xmit; generic XDP sends as the stack does."""
    bench.attach("r1 = 1; r2 = 0; call bpf_redirect; exit")
    bench.send()
    assert bench.reason() == ("XDP: redirect failed with EOPNOTSUPP" if bench.native else "")
    assert bench.r.loopback.stats.tx_packets == (0 if bench.native else 1)


@pytest.mark.parametrize("kind", [MapType.DEVMAP, MapType.DEVMAP_HASH])
@pytest.mark.parametrize(("flags", "ports"), [(0, ["eth1", "eth2", "eth3"]), (EXCLUDE_INGRESS, ["eth2", "eth3"])])
def test_broadcast(bench: Bench, kind: MapType, flags: int, ports: list[str]) -> None:
    """facts/kernel-6.18.md: BROADCAST includes the ingress device unless EXCLUDE_INGRESS."""
    devmap = bench.devmap(kind, eth3=None, eth1=None, eth2=None)
    link = bench.attach(to_map(devmap, 0, BROADCAST | flags))
    bench.send()
    assert bench.arrived() == {port: [FRAME] for port in ports}
    assert link.verdicts == {"XDP_REDIRECT": 1}


def test_broadcast_to_nobody_is_no_error(bench: Bench) -> None:
    bench.attach(to_map(bench.devmap(eth1=None), 0, BROADCAST | EXCLUDE_INGRESS))
    bench.send()
    assert (bench.arrived(), bench.errors(), bench.ingress.stats.rx_dropped) == ({}, [], 0)


def test_native_broadcast_leaves_out_who_cannot_send(native: Bench) -> None:
    """is_valid_dst: devices without ndo_xdp_xmit and too small MTUs are passed over."""
    native.attach(to_map(native.devmap(lo=None, eth2=None), 0, BROADCAST))
    native.send()
    assert (native.arrived(), native.errors()) == ({"eth2": [FRAME]}, [])


def test_generic_broadcast_ends_at_the_first_error(lab: Any, generic: Bench) -> None:
    """dev_map_redirect_multi: an entry that cannot take the frame ends it, and the frame is dropped."""
    small = generic.r.add_nic("small", mtu=68)
    lab.connect(small, lab.net("s").add_nic("eth0"))
    devmap = lab.devmap(generic.r, MapType.DEVMAP, {0: (generic.devices[1], None), 1: (small, None)})
    generic.attach(to_map(f"{devmap.address:#x}", 0, BROADCAST))
    generic.send(bytes(100))
    assert generic.arrived() == {"eth2": [bytes(100)]}
    assert generic.reason() == "XDP: redirect failed with EMSGSIZE"


def test_frames_go_out_in_bulks_of_16(native: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """DEV_MAP_BULK_SIZE, and what is left when the poll of up to 64 frames ends."""
    bulks: list[int] = []
    target = native.devices[1]
    monkeypatch.setattr(
        type(target), "ndo_xdp_xmit", property(lambda _: lambda frames, cpu: bulks.append(len(frames)) or len(frames))
    )
    native.attach("r1 = 3; r2 = 0; call bpf_redirect; exit")
    cpu = native.r.cpus[0]
    bpf_net_ctx_set(cpu)
    for _ in range(40):
        native.r.xdp.receive(native.ingress, native.ingress.queues[0].xdp_ring, FRAME, cpu)
    assert bulks == [16, 16]
    native.r.xdp.xdp_do_flush(cpu)
    assert bulks == [16, 16, 8]
    native.r.xdp.xdp_do_flush(cpu)
    assert bulks == [16, 16, 8]


def test_the_device_that_was_last_is_flushed_first(native: Bench) -> None:
    """bq_enqueue adds a device at the head of the flush list; each keeps the order of its frames."""
    # by the last byte of the frame: eth2, eth3, eth4
    text = "r2 = *(u64 *)(r1 + 0); r1 = *(u8 *)(r2 + 63); r2 = 0; call bpf_redirect; exit"
    native.attach(text)
    cpu = native.r.cpus[0]
    bpf_net_ctx_set(cpu)
    for number, ifindex in enumerate((3, 5, 3, 4)):
        frame = bytes([number]) + FRAME[1:63] + bytes([ifindex])
        native.r.xdp.receive(native.ingress, native.ingress.queues[0].xdp_ring, frame, cpu)
    native.r.xdp.xdp_do_flush(cpu)
    native.lab.run()
    assert native.sent() == ["eth3", "eth4", "eth2", "eth2"]
    assert [frame[0] for frame in native.arrived()["eth2"]] == [0, 2]


def test_unflushed_frames_are_our_bug(native: Bench) -> None:
    native.attach("r1 = 3; r2 = 0; call bpf_redirect; exit")
    cpu = native.r.cpus[0]
    bpf_net_ctx_set(cpu)
    native.r.xdp.receive(native.ingress, native.ingress.queues[0].xdp_ring, FRAME, cpu)
    with pytest.raises(InternalError, match="not flushed"):
        bpf_net_ctx_clear(cpu)


def test_frames_that_the_driver_does_not_take_are_noted(native: Bench) -> None:
    unplugged = native.r.add_nic("unplugged")
    native.attach(f"r1 = {unplugged.ifindex}; r2 = 0; call bpf_redirect; exit")
    native.send()
    (note,) = [note for note in native.lab.recorder.notes if note.kind == "xdp_devmap_xmit"]
    assert note.text == "ndo_xdp_xmit from_ifindex=2 to_ifindex=6 action=REDIRECT sent=0 drops=1 err=0"
    assert unplugged.stats.tx_dropped == 1


def test_a_wish_is_there_until_it_is_used(native: Bench) -> None:
    """A frame that was passed asked for eth2; the next one of the poll returns XDP_REDIRECT without asking."""
    text = (
        "r6 = r1; r1 = 3; r2 = 0; r7 = *(u64 *)(r6 + 0); r7 = *(u8 *)(r7 + 0); if r7 == 0 goto +1; call bpf_redirect;"
    )
    native.attach(f"{text} r0 = 4; if r7 != 1 goto +1; r0 = 1; exit")
    cpu = native.r.cpus[0]
    bpf_net_ctx_set(cpu)
    verdicts = []
    for first in (1, 0, 0):
        frame = bytes([first]) + FRAME[1:]
        result = native.r.xdp.receive(native.ingress, native.ingress.queues[0].xdp_ring, frame, cpu)
        verdicts.append((result.verdict.name, result.reason))
    native.r.xdp.xdp_do_flush(cpu)
    native.lab.run()
    assert verdicts[:2] == [("XDP_DROP", "XDP"), ("XDP_REDIRECT", "")]
    assert verdicts[2] == ("XDP_REDIRECT", "XDP: redirect failed with EBADRQC")
    assert len(native.arrived()["eth2"]) == 1


# ---- programs of devmap entries -------------------------------------------------------------------------------------


def test_a_program_on_the_way_out_changes_the_frame(bench: Bench) -> None:
    text = "r2 = *(u64 *)(r1 + 0); r3 = 0xee; *(u8 *)(r2 + 0) = r3; r0 = 2; exit"
    bench.attach(to_map(bench.devmap(eth2=bench.egress(text), eth3=None), 0, BROADCAST))
    bench.send()
    assert bench.arrived() == {"eth2": [b"\xee" + FRAME[1:]], "eth3": [FRAME]}
    assert [(run.hook, run.device, run.verdict) for run in bench.lab.recorder.runs[1:]] == [
        ("xdp_devmap", "eth2", "XDP_PASS")
    ]


@pytest.mark.parametrize(("act", "kinds"), [(0, ["xdp_exception"]), (1, []), (3, ["warning", "xdp_exception"])])
def test_a_program_on_the_way_out_drops(bench: Bench, act: int, kinds: list[str]) -> None:
    bench.attach(to_map(bench.devmap(eth2=bench.egress(f"r0 = {act}; exit")), 0))
    bench.send()
    assert (bench.arrived(), bench.reason()) == ({}, "")
    noted = [note.kind for note in bench.lab.recorder.notes]
    assert [kind for kind in noted if kind in ("warning", "xdp_exception")] == kinds
    assert ("xdp_devmap_xmit" in noted) == bench.native


def test_a_program_on_the_way_out_sees_both_devices(lab: Any, bench: Bench) -> None:
    """dev_map_bpf_prog_run has an xdp_rxq_info of its own, with the device and queue 0; generic XDP the real one."""
    # ingress ifindex, queue, egress ifindex: into the first bytes of the frame
    dev = "r3 = *(u64 *)(r3 + 0); r3 = *(u32 *)(r3 + 224);"
    text = f"r2 = *(u64 *)(r1 + 0); r4 = *(u64 *)(r1 + 32); r3 = r4; {dev} *(u8 *)(r2 + 0) = r3;"
    text += f"r4 = *(u32 *)(r4 + 8); *(u8 *)(r2 + 1) = r4; r3 = *(u64 *)(r1 + 40); {dev} *(u8 *)(r2 + 2) = r3;"
    many = bench.r.add_nic("many", queues=4)
    sender = lab.net("s").add_nic("eth0")
    lab.connect(many, sender)
    lab.attach(many, to_map(bench.devmap(eth2=bench.egress(f"{text} r0 = 2; exit")), 0), bench.mode)
    ip = b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0E\0\0\x1c" + bytes(5) + b"\x11\0\0" + bytes([10, 0, 0, 1, 10, 0, 0, 2])
    sender.inject(ip)
    lab.run()
    (record,) = lab.frames(bench.r, "in", "many")
    assert record.queue != 0, "the frame is to come in by another queue"
    assert bench.arrived()["eth2"][0][:3] == bytes([many.ifindex, 0 if bench.native else record.queue, 3])


def test_metadata_reaches_the_way_out_natively(bench: Bench) -> None:
    """struct xdp_frame carries it; bpf_prog_run_generic_xdp prepares the buffer anew, without any."""
    devmap = bench.devmap(eth2=bench.egress(
        "r2 = *(u64 *)(r1 + 0); r3 = *(u64 *)(r1 + 16); r4 = r2; r4 -= r3; *(u8 *)(r2 + 0) = r4; r0 = 2; exit"
    ))  # fmt: skip
    bench.attach(f"r2 = -8; call bpf_xdp_adjust_meta; {to_map(devmap, 0)}")
    bench.send()
    assert bench.arrived()["eth2"][0][0] == (8 if bench.native else 0)


def test_a_program_in_flight_outlives_its_entry(native: Bench) -> None:
    egress = native.egress("r2 = *(u64 *)(r1 + 0); r3 = 7; *(u8 *)(r2 + 0) = r3; r0 = 2; exit")
    devmap = native.lab.devmap(native.r, MapType.DEVMAP, {0: (native.devices[1], egress)})
    native.attach(to_map(f"{devmap.address:#x}", 0))
    cpu = native.r.cpus[0]
    bpf_net_ctx_set(cpu)
    native.r.xdp.receive(native.ingress, native.ingress.queues[0].xdp_ring, FRAME, cpu)
    devmap.delete_elem(bytes(4))
    assert egress.refs == 2
    native.r.xdp.xdp_do_flush(cpu)
    native.lab.run()
    assert native.arrived()["eth2"] == [b"\7" + FRAME[1:]]
    assert egress.refs == 1


def test_buffers_come_back(native: Bench) -> None:
    native.attach(to_map(native.devmap(eth2=None, eth3=None), 0, BROADCAST))
    native.send(*[FRAME] * 100)
    before = native.lab.mem.allocated_bytes
    native.send(*[FRAME] * 200)
    assert len(native.arrived()["eth3"]) == 300
    assert native.lab.mem.allocated_bytes == before


def test_a_redirect_costs_what_was_published(native: Bench) -> None:
    """facts/costs.md: 116 ns for the whole packet; the program's four instructions and its helper come on top."""
    link = native.attach("r1 = 3; r2 = 0; call bpf_redirect; exit")
    native.send()
    helper_ns, insns_ns = 2.0, 4 * 0.3
    assert link.ns_per_packet == pytest.approx(116 + helper_ns + insns_ns)
