"""Records of the stack's events, field by field beside what Linux 6.12 printed of the same packets."""

from typing import Any

import pytest
from net_paths import NetPaths, events, warm

from ebpfsim.btf.types import FuncProto
from ebpfsim.btf.vmlinux import vmlinux
from tracing.functions import word
from tracing.net_records import NET_BUILDERS, NET_TRACEPOINTS
from tracing.trace_events import find_event, pack

# what depends on addresses and secrets, or on how a CPU was named in a field that two uses share
OTHER = {
    "skbaddr",
    "location",
    "rx_sk",
    "hash",
    "l4_hash",
    "napi_id",
    "confirmed",
    "updated",
    "used",
    "refcnt",
    "primary_key6",
    "pid",
}


class Recorder(NetPaths):
    """``records`` are the fields of each event."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[str, dict[str, Any]]] = []

    def _fire(self, name: str) -> Any:
        full_name = next((full for full in NET_BUILDERS if full.endswith(f":{name}")), "")

        def fire(_cpu: Any, *args: Any) -> None:
            if self.watching and full_name:
                values = NET_BUILDERS[full_name](self.kernel, *map(word, args))
                assert len(pack(find_event(full_name), values)) >= find_event(full_name).size
                self.records.append((name, dict(values)))

        return fire


def said(text: str) -> dict[str, str]:
    parts = (part.rstrip(".,") for part in text.split())
    return dict(part.split("=", 1) for part in parts if "=" in part and not part.startswith(("=", "type=")))


def shown(values: dict[str, Any]) -> dict[str, str]:
    texts = {}
    for key, value in values.items():
        name = {"name": "dev"}.get(key, key)
        if isinstance(value, bytes):
            texts[name] = value.rstrip(b"\0").decode(errors="replace")
        elif name in ("vlan_proto", "vlan_tci", "protocol") and "skbaddr" in values and "reason" not in values:
            texts[name] = f"{value:#06x}"
        else:
            texts[name] = f"{value:#x}" if name == "gso_type" else str(int(value))
    return texts


def compare(paths: Recorder, recording: str) -> int:
    names = {name for name, _ in paths.records}
    recorded = [(name, said(text)) for name, text in events(recording) if name in names and "netlink" not in text]
    assert [name for name, _ in paths.records] == [name for name, _ in recorded]
    compared = 0
    for (name, values), (_, text) in zip(paths.records, recorded, strict=True):
        ours = shown(values)
        for key, value in text.items():
            if key in ours and key not in OTHER:
                assert ours[key] == value, (name, key)
                compared += 1
    return compared


def test_a_datagram_for_a_closed_port() -> None:
    paths = Recorder()
    paths.pair()
    paths.send(("10.0.0.2", 5999), b"x")
    assert compare(paths, "udp_drop_no_socket") > 80
    # fib_table_lookup: table 254 oif 2 iif 1 proto 17 10.0.0.2/5999 -> 10.0.0.1/6000
    (back,) = (values for name, values in paths.records if name == "fib_table_lookup" and values["oif"])
    keys = ("tb_id", "oif", "iif", "proto", "src", "sport", "dst", "dport", "name")
    assert [back[key] for key in keys] == [
        254, 2, 1, 17, bytes((10, 0, 0, 2)), 5999, bytes((10, 0, 0, 1)), 6000, b"vb",
    ]  # fmt: skip
    (error,) = (values for name, values in paths.records if name == "icmp_send")
    assert [error[key] for key in ("type", "code", "sport", "dport", "ulen")] == [3, 3, 6000, 5999, 9]


def test_a_datagram_that_is_forwarded() -> None:
    paths = Recorder()
    r, c = paths.router()
    c.udp_socket("10.0.1.2", 5000)
    for net in (paths.a, r, c):
        warm(net)
    paths.send(("10.0.1.2", 5000), b"f", bound="0.0.0.0")
    lengths = [values["len"] for name, values in paths.records if name == "net_dev_queue"]
    recorded = [said(text)["len"] for name, text in events("forward_udp") if name == "net_dev_queue"]
    assert [str(length) for length in lengths] == recorded


def test_neighbours_are_asked() -> None:
    paths = Recorder()
    paths.pair(known_neighbours=False)
    paths.send(("10.0.0.2", 5999), bound="0.0.0.0")
    steps = [(name, values["nud_state"]) for name, values in paths.records if "nud_state" in values]
    words = {"incomplete": 1, "reachable": 2, "stale": 4, "delay": 8, "failed": 0x20, "permanent": 0x80, "0x0": 0}
    recorded = []
    for name, text in events("arp_request_reply"):
        if "nud_state" in text:
            recorded.append((name, words[text.partition("nud_state ")[2].split()[0]]))
    assert steps == recorded
    created = [values for name, values in paths.records if name == "neigh_create"]
    assert [(values["primary_key4"][-1], values["dev"], values["created"]) for values in created] == [
        (2, b"va", True), (1, b"vb", True),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NET_TRACEPOINTS)
def test_builders_take_the_arguments_of_the_tracepoint(name: str) -> None:
    btf = vmlinux()
    pointer: Any = btf.resolved(btf.find(f"btf_trace_{name}") or 0)
    proto = btf.resolved(pointer.type_id)
    assert isinstance(proto, FuncProto)
    builder = next(build for full, build in NET_BUILDERS.items() if full.endswith(f":{name}"))
    # the kernel and the arguments here, the probe's own word and the arguments there
    assert builder.__code__.co_argcount == len(proto.params)
