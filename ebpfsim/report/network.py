"""A picture of a simulation's network: hosts in layers above those at its edge, cables with what they have carried.

It is an SVG for the page of ``ebpfsim run --report``. A host lies as high as it is cables away from the nearest end of
the network; in a layer hosts stand above those that they are connected with.
"""

from collections import deque
from collections.abc import Iterable
from html import escape

from ebpfsim.simulation import Simulation
from netstack.wire import Channel

__all__ = ["layers", "picture"]

WIDTH, ROW, MARGIN = 1180, 92, 40
MAX_SHOWN_NAMES = 24  # in a row; more have their names only as tips
BOX = 9


def layers(names: Iterable[str], cables: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the names in rows, the edge of the network first; those without a cable stand with the edge."""
    near: dict[str, list[str]] = {name: [] for name in names}
    for a, b in cables:
        near[a].append(b)
        near[b].append(a)
    degree = {name: len(set(others) - {name}) for name, others in near.items()}
    least = min((count for count in degree.values() if count), default=0)
    height = {name: 0 for name, count in degree.items() if count <= max(1, least)}
    queue = deque(height)
    while queue:
        name = queue.popleft()
        for other in near[name]:
            if other not in height:
                height[other] = height[name] + 1
                queue.append(other)
    rows: list[list[str]] = [[] for _ in range(max(height.values(), default=-1) + 1)]
    for name in near:
        rows[height.setdefault(name, 0)].append(name)
    place = {name: (index + 0.5) / len(rows[0]) for index, name in enumerate(rows[0])} if rows else {}
    for row in rows[1:]:
        middle = {name: [place[other] for other in near[name] if other in place] for name in row}
        row.sort(key=lambda name, of=middle: sum(of[name]) / len(of[name]) if of[name] else 0.5)  # type: ignore[misc]
        place |= {name: (index + 0.5) / len(row) for index, name in enumerate(row)}
    return rows


def picture(sim: Simulation) -> str:
    """Return the SVG, or nothing where no cable joins two hosts."""
    cables = [(_host(wire.ab), _host(wire.ba)) for wire in sim.wires]
    if not any(a != b for a, b in cables):
        return ""
    rows = layers(sim.hosts, cables)
    height = 2 * MARGIN + ROW * (len(rows) - 1)
    place: dict[str, tuple[float, float]] = {}
    for level, row in enumerate(rows):
        for index, name in enumerate(row):
            place[name] = (WIDTH * (index + 0.5) / len(row), height - MARGIN - ROW * level)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" class="network" xmlns="http://www.w3.org/2000/svg">']
    most = max((wire.ab.stats.delivered + wire.ba.stats.delivered for wire in sim.wires), default=0)
    for wire, (a, b) in zip(sim.wires, cables, strict=True):
        total = wire.ab.stats.delivered + wire.ba.stats.delivered
        lost = sum(each.stats.lost + each.stats.dropped for each in (wire.ab, wire.ba))
        weight = 1 + 5 * total / most if most else 1
        (ax, ay), (bx, by) = place[a], place[b]
        kind = "lossy" if lost else "cable"
        tip = escape(f"{_words(wire.ab)}\n{_words(wire.ba)}")
        parts.append(
            f'<line class="{kind}" x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" '
            f'stroke-width="{weight:.1f}"><title>{tip}</title></line>'
        )
    for row in rows:
        for name in row:
            x, y = place[name]
            label = f'<text x="{x:.1f}" y="{y + 26:.1f}">{escape(name)}</text>' if len(row) <= MAX_SHOWN_NAMES else ""
            parts.append(
                f'<g><rect class="{_kind(sim, name)}" x="{x - BOX:.1f}" y="{y - BOX:.1f}" width="{2 * BOX}" '
                f'height="{2 * BOX}" rx="3"><title>{escape(_about(sim, name))}</title></rect>{label}</g>'
            )
    return "\n".join([*parts, "</svg>"])


def _host(channel: Channel) -> str:
    return channel.src.net.init_net.name


def _words(channel: Channel) -> str:
    stats = channel.stats
    lost = f", {stats.lost} lost" if stats.lost else ""
    dropped = f", {stats.dropped} dropped at the queue" if stats.dropped else ""
    return f"{channel.src.full_name} > {channel.dst.full_name}: {stats.delivered} frames{lost}{dropped}"


def _kind(sim: Simulation, name: str) -> str:
    net = sim.hosts[name].net
    if net.sysctls["net.ipv4.ip_forward"] or net.sysctls["net.ipv6.conf.all.forwarding"]:
        return "router"
    return "switch" if any(type(dev).__name__ == "Bridge" for dev in net.devices.values()) else "machine"


def _about(sim: Simulation, name: str) -> str:
    from netstack.headers import format_ip

    lines = [name]
    for dev in sim.hosts[name].net.devices.values():
        if dev.loopback:
            continue
        addresses = " ".join(f"{format_ip(one.address)}/{one.prefixlen}" for one in dev.addresses)
        stats = dev.stats
        lines.append(f"{dev.name} {addresses}: in {stats.rx_packets}, out {stats.tx_packets}")
    return "\n".join(lines)
