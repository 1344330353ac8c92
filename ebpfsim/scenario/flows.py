"""Flows of scenarios: what ``flow`` events may say, whether it can be, how they begin and what they came to.

``type`` is one of ``tcp`` (bulk data; the default), ``udp``, ``requests`` (over TCP) and ``syn_flood``. Sizes and times
may be drawn from distributions: ``size: {uniform: [64, 1400]}``, ``every: {exponential: 1ms}``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import BeforeValidator, WithJsonSchema

from ebpfsim.errors import InputError
from ebpfsim.host_traffic import Flow, Resolved, find_end
from ebpfsim.scenario.document import Key
from ebpfsim.scenario.units import Wrong, duration_ns
from ebpfsim.suggest import did_you_mean
from netstack.distribution import KINDS, Distribution, constant
from netstack.request_flow import RequestFlow
from netstack.tcp_flow import BulkFlow
from netstack.udp_flow import Flood, UdpFlow

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import EventBlock, ExpectBlock, ScenarioModel

__all__ = [
    "FLOW_KEYS", "FLOW_TYPES", "FlowRows", "Interval", "Size", "SourceNetwork", "check_flow", "flow_rows",
    "flow_summary", "instants", "refuse_flow", "start_flow",
]  # fmt: skip

Path = tuple[Key, ...]
FlowRows = Iterator[tuple[str, Any, int]]
# type -> keys that it needs, keys that it may have, beside host, to and type
FLOW_TYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tcp": ((), ("bytes", "congestion")),
    "udp": ((), ("rate", "every", "size", "count", "duration")),
    "requests": (("count",), ("request", "response", "think", "clients", "per_connection", "congestion")),
    "syn_flood": (("every",), ("device", "sources", "count", "duration")),
}
FLOW_KEYS = ("host", "to", "type", *dict.fromkeys(key for needs, may in FLOW_TYPES.values() for key in (*needs, *may)))
# what expectations of each type may ask for
FLOW_EXPECTS = {
    "tcp": ("received", "retransmits", "ended"),
    "udp": ("sent", "received", "datagrams", "lost", "reordered", "refused_calls", "ended"),
    "requests": ("sent", "received", "responses", "failed", "retransmits", "ended"),
    "syn_flood": ("sent", "ended"),
}
DEFAULT_SIZE, DEFAULT_REQUEST, DEFAULT_RESPONSE = 1000, 100, 1000
MAX_BYTES = 1 << 30


def _distribution(unit: Callable[[object], float], example: str, value: object) -> Distribution:
    try:
        return Distribution.parse(value, unit)
    except InputError as error:
        unknown = [str(name) for name in value if name not in KINDS] if isinstance(value, dict) else []
        near = did_you_mean(unknown[0], KINDS) if unknown else ""
        raise Wrong(error.problem + near, error.hint or example) from None


def _bytes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_BYTES:
        raise Wrong(f"expected a number of bytes, have {value!r}", "1000, or {uniform: [64, 1400]}")
    return value


def _schema(unit: str) -> WithJsonSchema:
    kinds: dict[str, object] = {name: {} for name in KINDS}
    distribution = {"type": "object", "properties": kinds, "maxProperties": 1, "additionalProperties": False}
    return WithJsonSchema({"oneOf": [{"type": ["integer", "string"], "description": unit}, distribution]})


def _sources(value: object) -> IPv4Network:
    try:
        return IPv4Network(value)
    except ValueError:
        raise Wrong(f"network {value!r} is not understood", "a network as in 10.9.0.0/16") from None


Interval = Annotated[
    Distribution,
    BeforeValidator(partial(_distribution, duration_ns, "10us, or {exponential: 1ms}")),
    _schema("a time with ns, us, ms, s or min"),
]
Size = Annotated[
    Distribution, BeforeValidator(partial(_distribution, _bytes, "1000, or {uniform: [64, 1400]}")), _schema("bytes")
]
SourceNetwork = Annotated[
    IPv4Network, BeforeValidator(_sources), WithJsonSchema({"type": "string", "examples": ["10.9.0.0/16"]})
]


def refuse_flow(given: set[str], type_: str) -> None:
    """Refuse keys that a type of flow does not have, and what it lacks."""
    needs, may = FLOW_TYPES[type_]
    for key in needs:
        if key not in given:
            raise Wrong(f"a flow of type {type_} needs the key '{key}'")
    for key in sorted(given - {"at", "flow", "type", "host", "to", *needs, *may}):
        has = ", ".join(f"'{name}'" for name in (*needs, *may))
        raise Wrong(f"a flow of type {type_} has no key '{key}'", f"it has {has}", key=key)
    if type_ == "udp" and ("rate" in given) == ("every" in given):
        raise Wrong("a flow of type udp has either 'rate' or 'every'", "rate: 10Mbit, or every: {exponential: 1ms}")
    if type_ in ("udp", "syn_flood") and not given & {"count", "duration"}:
        raise Wrong(f"a flow of type {type_} needs 'count' or 'duration', or it never ends", "duration: 100ms")


class Check(Protocol):
    """What gathers the errors of a scenario."""

    model: "ScenarioModel"

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        """Tell that a name leads nowhere."""

    def not_modelled(self, path: Path, feature: str, *, key: bool = False) -> None:
        """Tell that Linux has something that is not here."""

    def device_name(self, path: Path, host: str | None, device: str | None) -> None:
        """Look whether a host has a device."""


def check_flow(check: Check, path: Path, event: "EventBlock") -> None:
    """Tell what is wrong with a flow."""
    flows = [other for other in check.model.events if other.flow is not None]
    assert event.to is not None
    address, _ = event.to
    check.device_name((*path, "device"), event.host, event.device)
    if not _is_address(address) and address not in check.model.hosts:
        check.unknown((*path, "to"), "host", address, check.model.hosts)
    if ":" in address and event.flow_type == "syn_flood":
        check.not_modelled((*path, "to"), "floods of IPv6")
    if sum(other.flow == event.flow for other in flows) > 1:
        check.wrong((*path, "flow"), f"there are several flows '{event.flow}'")
    listeners = [other for other in flows if other.to == event.to and other.flow_type != "syn_flood"]
    if event.flow_type != "syn_flood" and len({each.flow_type == "udp" for each in listeners}) < len(listeners):
        check.wrong((*path, "to"), "another flow goes there", "another port")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def start_flow(running: "Running", index: int, event: "EventBlock") -> None:
    """Put a flow on the time line."""
    name, host = str(event.flow), running.sim.hosts[str(event.host)]
    assert event.to is not None
    with running.at("events", index, "to"):
        end = find_end(running.sim, *event.to, like=host, needed=event.flow_type != "syn_flood")
    with running.at("events", index):
        running.flows[name] = _START[event.flow_type](running, name, event, end)


def _tcp(running: "Running", name: str, event: "EventBlock", end: Resolved) -> Flow:
    source = running.sim.hosts[str(event.host)].net
    assert end.net is not None
    return BulkFlow(
        source, end.net, end.address, end.port, event.bytes, congestion=event.congestion or "", start_ns=event.at
    )


def _udp(running: "Running", name: str, event: "EventBlock", end: Resolved) -> Flow:
    source = running.sim.hosts[str(event.host)].net
    return UdpFlow(
        source, end.net, end.address, end.port, size=event.size or constant(DEFAULT_SIZE), every=event.every,
        rate_bps=event.rate or 0, count=event.count, for_ns=event.duration, start_ns=event.at, name=name,
    )  # fmt: skip


def _requests(running: "Running", name: str, event: "EventBlock", end: Resolved) -> Flow:
    source = running.sim.hosts[str(event.host)].net
    assert end.net is not None
    assert event.count is not None
    return RequestFlow(
        source, end.net, end.address, end.port, request=event.request or constant(DEFAULT_REQUEST),
        response=event.response or constant(DEFAULT_RESPONSE), think=event.think or constant(0), count=event.count,
        clients=event.clients or 1, per_connection=event.per_connection, congestion=event.congestion or "",
        start_ns=event.at, name=name,
    )  # fmt: skip


def _syn_flood(running: "Running", name: str, event: "EventBlock", end: Resolved) -> Flow:
    assert event.every is not None
    return running.sim.hosts[str(event.host)].syn_flood(
        (end.address, end.port), device=event.device, every=event.every, sources=event.sources, count=event.count,
        duration=event.duration, at=event.at, label=name,
    )  # fmt: skip


_START: dict[str, Callable[["Running", str, "EventBlock", Resolved], Flow]] = {
    "tcp": _tcp, "udp": _udp, "requests": _requests, "syn_flood": _syn_flood,
}  # fmt: skip


def instants(running: "Running", stream: str, start_ns: int, every: Distribution | None, count: int) -> Iterator[int]:
    """Return the times of ``count`` things, the first at ``start_ns``."""
    random, at_ns = running.sim.rng.stream(stream), start_ns
    for _ in range(count):
        yield at_ns
        at_ns += every.draw(random) if every is not None else 0


_WORDS = {
    "sent": "sent", "datagrams": "datagrams received", "lost": "datagrams lost", "reordered": "datagrams out of order",
    "refused_calls": "calls refused", "responses": "responses", "failed": "connections that broke",
    "retransmits": "segments sent again", "received": "bytes received",
}  # fmt: skip


def flow_rows(running: "Running", expect: "ExpectBlock") -> FlowRows:
    """Return what an expectation of a flow says about numbers: the words, what is wanted, what there is."""
    flow = running.flows[str(expect.flow)]
    for key, words in _WORDS.items():
        want = getattr(expect, key, None)
        if want is not None:
            yield words, want, int(getattr(flow, "refused" if key == "refused_calls" else key))


def flow_summary(flow: Flow) -> Mapping[str, Any]:
    """Return numbers of a flow beside those that a flow of TCP has."""
    match flow:
        case UdpFlow():
            delays = {"min_ns": flow.delay_min_ns, "mean_ns": flow.delay_mean_ns, "max_ns": flow.delay_max_ns}
            numbers = ("sent", "datagrams", "lost", "reordered", "refused")
            return {name: getattr(flow, name) for name in numbers} | {"delay": delays}
        case RequestFlow():
            ordered = sorted(flow.latencies_ns)
            at = {f"p{part}_ns": ordered[len(ordered) * part // 100] for part in (50, 99) if ordered}
            counts = ("sent", "responses", "failed", "connections")
            return {name: getattr(flow, name) for name in counts} | {"latency": at}
        case Flood():
            return {"sent": flow.sent}
    return {}
