"""Expectations about a host's network: counters of nstat, dropped frames by their reasons, states of neighbours."""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Protocol

from ebpfsim.scenario.devices import device_names
from ebpfsim.scenario.document import Key
from netstack.drop_reasons import LINK_LOSS, RX_MISSED, SkbDropReason
from netstack.neigh import Nud
from netstack.snmp import SNMP_COUNTERS

if TYPE_CHECKING:
    from ebpfsim.scenario.run import Running
    from ebpfsim.scenario.schema import ExpectBlock, ScenarioModel
    from netstack.net import Net

__all__ = ["check_drops", "check_neighbour", "check_snmp", "drop_rows", "neighbour_rows", "snmp_rows"]

Path = tuple[Key, ...]
Row = tuple[str, str, str, bool]
REASONS = (*(reason.name for reason in SkbDropReason), RX_MISSED, LINK_LOSS)
STATES = (*(state.name for state in Nud if state.name and state != Nud.NONE), "none")


class Check(Protocol):
    """What gathers the errors of a scenario."""

    model: "ScenarioModel"

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        """Tell that something is wrong at a place."""

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        """Tell that a name leads nowhere."""

    def endpoint(self, path: Path, text: str, what: str, *, cables: bool = True) -> bool:
        """Look whether HOST/INTERFACE is there."""


def check_snmp(check: Check, path: Path, expect: "ExpectBlock") -> None:
    """Tell what is wrong with an expectation of counters."""
    host, slash, netns = str(expect.snmp).partition("/")
    if host not in check.model.hosts:
        check.unknown((*path, "snmp"), "host", host, check.model.hosts)
    elif slash and netns not in check.model.hosts[host].namespaces:
        check.unknown((*path, "snmp"), f"namespace of '{host}':", netns, check.model.hosts[host].namespaces)
    for name in expect.counters or {}:
        if name not in SNMP_COUNTERS:
            check.unknown((*path, "counters", name), "counter", name, SNMP_COUNTERS, key=True)


def check_drops(check: Check, path: Path, expect: "ExpectBlock") -> None:
    """Tell what is wrong with an expectation of dropped frames."""
    host, slash, device = str(expect.drops).partition("/")
    if host not in check.model.hosts:
        check.unknown((*path, "drops"), "host", host, check.model.hosts)
    elif slash and device not in device_names(check.model.hosts[host]):
        check.unknown((*path, "drops"), f"device of '{host}':", device, device_names(check.model.hosts[host]))
    for name in expect.reasons or {}:
        if name not in REASONS:
            check.unknown((*path, "reasons", name), "reason", name, REASONS, key=True)


def check_neighbour(check: Check, path: Path, expect: "ExpectBlock") -> None:
    """Tell what is wrong with an expectation of a neighbour."""
    check.endpoint((*path, "neighbour"), str(expect.neighbour), "device", cables=False)
    try:
        ip_address(str(expect.address))
    except ValueError:
        check.wrong((*path, "address"), f"'neighbour' needs 'address', have '{expect.address}'", "address: 10.0.0.1")
    if expect.state is not None and expect.state not in STATES:
        check.unknown((*path, "state"), "state", expect.state, STATES)


def snmp_rows(running: "Running", expect: "ExpectBlock") -> Iterator[Row]:
    """Compare counters."""
    host, _, netns = str(expect.snmp).partition("/")
    snmp = _net(running, host, netns).snmp
    for name, want in (expect.counters or {}).items():
        yield _counted(f"'{expect.snmp}': {name}", want, snmp[name])


def drop_rows(running: "Running", expect: "ExpectBlock") -> Iterator[Row]:
    """Compare how many frames were dropped, and packets of the host that never became frames."""
    host, slash, _ = str(expect.drops).partition("/")
    found: dict[str, int] = {}
    for record in running.sim.recorder.packets:
        here = record.host.partition("/")[0] == host
        if slash:
            here = f"{record.host}/{record.device}" == expect.drops
        if here and record.reason:
            found[record.reason] = found.get(record.reason, 0) + 1
    for note in running.sim.recorder.notes if not slash else ():
        if note.kind == "drop" and note.host.partition("/")[0] == host:
            reason = str(note.details["reason"])
            found[reason] = found.get(reason, 0) + 1
    for name, want in (expect.reasons or {}).items():
        yield _counted(f"'{expect.drops}': dropped for {name}", want, found.get(name, 0))
    if expect.total is not None:
        yield _counted(f"'{expect.drops}': dropped", expect.total, sum(found.values()))


def neighbour_rows(running: "Running", expect: "ExpectBlock") -> Iterator[Row]:
    """Compare the state of a neighbour."""
    host, _, device = str(expect.neighbour).partition("/")
    dev, address = running.sim.hosts[host].device(device), ip_address(str(expect.address))
    table = dev.net.neigh if address.version == 4 else dev.net.neigh6
    found = table.lookup(dev, int(address))
    have = (found.state.name or "none") if found is not None else "none"
    yield f"'{expect.neighbour}': neighbour {address}", str(expect.state), have, have == expect.state


def _net(running: "Running", host: str, netns: str) -> "Net":
    found = running.sim.hosts[host]
    return found.netns(netns).net if netns else found.net


def _counted(what: str, want: tuple[int, int], have: int) -> Row:
    low, high = want
    return what, str(low) if low == high else f"{low} to {high}", str(have), low <= have <= high
