"""Running a scenario: hosts are built, programs loaded and attached, events put on the time line, expectations met.

Whatever the simulated kernel refuses carries the place in the scenario that led to it (``EbpfSimError.at``).
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ebpfsim.attached import AttachedLink
from ebpfsim.auto_routes import auto_routes, shown_pairs
from ebpfsim.errnos import Errno
from ebpfsim.errors import EbpfSimError, InputError, KernelError, ScenarioError, VerifierError
from ebpfsim.host_traffic import Flow
from ebpfsim.isa.insn import encode
from ebpfsim.loader import Object, ObjectMap
from ebpfsim.maps.ringbuf import RingbufMap
from ebpfsim.scenario.check import Checked
from ebpfsim.scenario.devices import add_device
from ebpfsim.scenario.document import Key
from ebpfsim.scenario.hooks import HOOKS, Attached
from ebpfsim.scenario.hooks_objects import STRUCT_OPS
from ebpfsim.scenario.load import Scenario
from ebpfsim.scenario.mapvalues import update_map
from ebpfsim.scenario.networks import add_route, add_rule, finish_role, role_sysctls
from ebpfsim.scenario.paths import locate
from ebpfsim.scenario.schema import AttachBlock, HostBlock, KernelBlock
from ebpfsim.scenario.targets import load_order
from ebpfsim.simulation import Host, Simulation
from ebpfsim.tasks import ChildTask
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.flags import BPF_OBJ_NAME_LEN
from netstack.nic import Nic
from netstack.qdisc_add import add_qdisc
from netstack.sock import UdpSocket

__all__ = ["Attachment", "LoadOutcome", "Path", "Running", "build", "finish"]

Path = tuple[Key, ...]
# what libbpf sets for SEC("xdp") and its like; links of XDP take only programs of one kind (bpf_xdp_link_update)
ASM_ATTACH_TYPES = {
    ProgType.XDP: AttachType.XDP,
    ProgType.SK_LOOKUP: AttachType.SK_LOOKUP,
    ProgType.FLOW_DISSECTOR: AttachType.FLOW_DISSECTOR,
}
# without `until`, a run may take this many steps of the clock once the last event has been started
MAX_STEPS_AFTER_EVENTS = 500_000


@dataclass
class Attachment:
    """A link by its id in the scenario, from when it was attached until it was detached or another one replaced it."""

    id: str
    program: str
    host: str
    device: str
    mode: str
    attached_ns: int
    hook: str
    link: Attached
    before: "_Counters"
    after: "_Counters | None" = None

    def detach(self) -> None:
        """Take the program off its hook; InputError when it is there no more."""
        self.check_attached()
        self.after = _counters(self.link)
        try:
            self.link.detach()
        except KernelError as error:
            if error.errno != Errno.EOPNOTSUPP or not isinstance(self.link, AttachedLink):
                raise
            # links of tracing programs go with their last descriptor
            self.link.close()

    def check_attached(self) -> None:
        """Raise InputError when the link was detached or replaced."""
        if self.after is not None:
            raise InputError("", f"link '{self.id}' is not attached at this time")

    @property
    def runs(self) -> int:
        """How often its program ran."""
        return self._now.runs - self.before.runs

    @property
    def verdicts(self) -> dict[str, int]:
        """Runs by verdict, in the order of the names."""
        counts = {name: count - self.before.verdicts.get(name, 0) for name, count in self._now.verdicts.items()}
        return {name: counts[name] for name in sorted(counts) if name and counts[name]}

    @property
    def ns_per_run(self) -> float:
        """Mean nanoseconds of a call of the program, to a picosecond."""
        return _mean_ns(self._now.run_ps - self.before.run_ps, self.runs)

    @property
    def ns_per_packet(self) -> float:
        """Mean nanoseconds that a packet cost where this program decided about it, to a picosecond."""
        return _mean_ns(self._now.packet_ps - self.before.packet_ps, self.runs)

    @property
    def _now(self) -> "_Counters":
        return self.after or _counters(self.link)


@dataclass(frozen=True)
class _Counters:
    runs: int
    verdicts: dict[str, int]
    run_ps: int
    packet_ps: int


def _counters(link: Attached) -> _Counters:
    stats = link.stats
    return _Counters(stats.runs, dict(stats.verdicts), stats.run_cost_ps, stats.packet_cost_ps)


def _mean_ns(total_ps: int, runs: int) -> float:
    return total_ps // runs / 1000 if runs else 0.0


@dataclass(frozen=True)
class LoadOutcome:
    """What came of loading a program: ``error`` is the kernel's refusal, or None."""

    object: str
    program: str
    insns: int
    verified_insns: int
    error: KernelError | None = None


@dataclass
class Running:
    """A scenario on its way: the simulation, and what the scenario's names stand for in it."""

    checked: Checked
    sim: Simulation
    objects: dict[str, Object] = field(default_factory=dict)
    program_fds: dict[tuple[str, str], int] = field(default_factory=dict)
    loads: list[LoadOutcome] = field(default_factory=list)
    attachments: dict[str, Attachment] = field(default_factory=dict)
    sockets: dict[str, UdpSocket] = field(default_factory=dict)
    refused: dict[str, Counter[str]] = field(default_factory=dict)
    sent: dict[int, int] = field(default_factory=dict)
    # what functions returned that events called
    calls: dict[int, int] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    records: dict[str, list[bytes]] = field(default_factory=dict)
    tasks: dict[str, ChildTask] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    reads: dict[str, list[str]] = field(default_factory=dict)
    readers: list[Callable[[], None]] = field(default_factory=list)
    # what is odd but no error
    warnings: list[ScenarioError] = field(default_factory=list)

    @property
    def scenario(self) -> Scenario:
        """The scenario."""
        return self.checked.scenario

    @contextmanager
    def at(self, *path: Key) -> Iterator[None]:
        """Give errors that pass through the place of a value; wrong values become errors of the scenario."""
        node = self.scenario.node(*path)
        try:
            yield
        except InputError as error:
            if error.at or error.where.startswith(f"{node.source.name}:"):
                raise
            problem = f"{error.where}: {error.problem}" if error.where else error.problem
            raise node.error(problem, error.hint) from None
        except EbpfSimError as error:
            node.locate(error)
            raise

    def map_of(self, text: str) -> ObjectMap:
        """Return the map that ``fw/blocked`` names."""
        object_name, _, name = text.partition("/")
        return self.objects[object_name].maps[name]

    def program_fd(self, text: str) -> int:
        """Return the descriptor of the program that ``fw/firewall`` names; InputError when it was refused."""
        target = self.checked.program(text)
        fd = self.program_fds.get((target.object, target.name))
        if fd is None:
            raise InputError("", f"program '{text}' is not loaded")
        return fd

    def attach(self, block: AttachBlock, path: Path) -> None:
        """Attach a program as an ``attach`` block says."""
        target = self.checked.program(block.program)
        host_name = self.checked.objects[target.object].block.host
        host, row = self.sim.hosts[host_name], HOOKS[block.hook]
        device = str(getattr(block, row.place)) if row.place else ""
        name = block.id or (f"{block.program}@{device}" if device else block.program)
        with self.at(*path):
            fd = self.program_fd(block.program) if block.hook != STRUCT_OPS else 0
            try:
                if block.replace is not None:
                    link = self._replace(block, host, device, fd, name)
                else:
                    link = row.attach(self, host, block, fd, name)
            except KernelError as error:
                if block.refused != error.errno_name:
                    raise
                return
            if block.refused is not None:
                raise InputError("", f"the kernel attached '{block.program}', expected {block.refused}")
        mode_in_use = host.device(device).xdp.mode.name.lower() if block.hook == "xdp" else ""
        now_ns = self.sim.now_ns
        self.attachments[name] = Attachment(
            name, block.program, host_name, device, mode_in_use, now_ns, block.hook, link, _counters(link)
        )

    def _replace(self, block: AttachBlock, host: Host, device: str, fd: int, name: str) -> Attached:
        old_name = str(block.replace)
        old = self.attachments[old_name]
        old.check_attached()
        if (old.host, old.device) != (host.name, device):
            raise InputError("", f"link '{old_name}' is on '{old.host}/{old.device}', not on '{host.name}/{device}'")
        old.link.update(fd, old=self.program_fd(block.old) if block.old is not None else None)
        old.after = _counters(old.link)
        old.link.label = name
        return old.link

    def digest(self) -> str:
        """Return a SHA-256 of everything that was recorded: equal for equal runs, whatever the engine.

        Where images lie is left out: memory is laid out otherwise in debug mode.
        """
        digest = hashlib.sha256()
        recorder = self.sim.recorder
        for packet in recorder.packets:
            line = (packet.time_ns, packet.host, packet.device, packet.direction, packet.verdict, packet.reason)
            digest.update(f"{line}{packet.data.hex()}".encode())
        notes = (entry for entry in recorder.notes if entry.kind != "text_poke")
        results = (result for task in self.tasks.values() for result in task.results)
        for row in (*recorder.runs, *notes, *results):
            digest.update(repr(row).encode())
        return digest.hexdigest()


def build(checked: Checked, *, debug: bool = False, engine: str = "") -> Running:
    """Return the scenario's hosts with everything loaded and attached, at time 0.

    ``debug`` turns debug mode on for all of them, ``engine`` replaces what the scenario says of engines.
    """
    model = checked.scenario.model
    running = Running(checked, Simulation(model.seed))
    if debug or model.kernel.debug or any(host.debug for host in model.hosts.values()):
        # before anything is allocated, so that every object is known to the byte
        running.sim.mem.track()
    forced: dict[str, Any] = {"debug": True} if debug else {}
    forced |= {"engine": engine} if engine else {}
    for name, host in model.hosts.items():
        _build_host(running, name, host.model_copy(update=forced), model.kernel)
    for index, link in enumerate(model.links):
        with running.at("links", index):
            a, b = (_nic(running, end) for end in link.ends)
            running.sim.link(a, b, rate=link.rate, delay=link.delay, loss=link.loss, queue=link.queue)
    if model.routes in ("auto", "multipath"):
        _auto_routes(running)
    for name, socket in model.sockets.items():
        with running.at("sockets", name, "udp"):
            running.sockets[name] = running.sim.hosts[socket.host].udp_socket(
                *socket.udp, cgroup=socket.cgroup, reuseport=socket.reuseport
            )
    for name in load_order(model.objects, checked.targets):
        with running.at("objects", name):
            _load(running, name)
    for text, values in model.maps.items():
        update_map(running, ("maps", text), text, values)
    read = {expect.records for expect in model.expect if expect.records is not None}
    for text in sorted(read | set(checked.records)):
        _consume(running, text)
    for index, attach in enumerate(model.attach):
        running.attach(attach, ("attach", index))
    return running


def finish(running: Running, until_ns: int | None, progress: Callable[[int], object] | None = None) -> None:
    """Let the scenario happen: until an instant, or until nothing is left to happen."""
    sim = running.sim
    if until_ns is not None:
        sim.run(until_ns)
    else:
        last_ns = max((event.at for event in running.scenario.model.events), default=0)
        sim.run(last_ns)
        budget = MAX_STEPS_AFTER_EVENTS + sum(running.sent.values()) * 50
        while sim.clock.step():
            budget -= 1
            if budget < 0:
                problem = f"scenario is still busy at {sim.now_ns} ns, long after its last event"
                raise InputError(running.scenario.shown_path, problem, "say when to stop: until: 100ms")
    for read in running.readers:
        read()  # what was committed without a wake-up
    for name, host in sim.hosts.items():
        running.traces[name] = host.trace_pipe.peek()


# of each CPU's perf buffer, which is read when all is over
PERF_PAGES = 1024


def _consume(running: Running, text: str) -> None:
    # a reader in user space, woken as by epoll
    # Differs: the reader of a ring buffer takes no time and reads when the CPU's work is done
    host = running.sim.hosts[running.checked.objects[text.partition("/")[0]].block.host]
    ring = host.kernel.fds.lookup(running.map_of(text).fd)
    records = running.records.setdefault(text, [])
    if not isinstance(ring, RingbufMap):
        perf = host.perf_buffer(running.map_of(text), pages=PERF_PAGES)
        running.readers.append(lambda: records.extend(sample.data for sample in perf.consume()))
        return

    def read() -> None:
        records.extend(ring.consume())

    def wake() -> None:
        running.sim.clock.call_in(0, read)

    ring.on_wakeup.append(wake)
    running.readers.append(read)


def _build_host(running: Running, name: str, host: HostBlock, defaults: KernelBlock) -> None:
    settings: dict[str, Any] = {}
    for block in (defaults, host):
        rows = {key: getattr(block, key) for key in KernelBlock.model_fields if key != "btf"}
        settings |= {key: value for key, value in rows.items() if value is not None}
    settings["sysctl"] = {**(defaults.sysctl or {}), **role_sysctls(host), **(host.sysctl or {})}
    with running.at("hosts", name):
        built = running.sim.host(name, **settings)
    for device, nic in host.interfaces.items():
        with running.at("hosts", name, "interfaces", device):
            built.nic(device, [str(address) for address in nic.address], mac=nic.mac, mtu=nic.mtu, queues=nic.queues)
            built.device(device).rps_cpus = tuple(nic.rps)
            if nic.advertise is not None:
                built.router_advertise(device, nic.advertise)
            if nic.qdisc is not None:
                options = dict(nic.qdisc)
                add_qdisc(built.device(device), str(options.pop("kind", "")), **options)
    with running.at("hosts", name):
        finish_role(built, host)
    for namespace in host.namespaces:
        built.netns(namespace)
    for device, software in host.devices.items():
        with running.at("hosts", name, "devices", device):
            add_device(built, device, software)
    for index, route in enumerate(host.routes):
        with running.at("hosts", name, "routes", index):
            add_route(built.netns(route.netns).net if route.netns is not None else built.net, route)
    for index, rule in enumerate(host.rules):
        with running.at("hosts", name, "rules", index):
            add_rule(built.netns(rule.netns).net if rule.netns is not None else built.net, rule)
    for path, binary in host.binaries.items():
        with running.at("hosts", name, "binaries", path):
            elf = b""
            if binary.file is not None:
                elf = locate(running.scenario.folder, binary.file).read_bytes()
            built.user_binary(path, binary.functions, usdt=binary.usdt, elf=elf)
    for path, file in host.files.items():
        content = (file.content or "").encode(errors="surrogateescape")
        built.kernel.vfs.add(path, content, mode=file.mode, uid=file.uid, gid=file.gid)


def _auto_routes(running: Running) -> None:
    lost = auto_routes(running.sim, multipath=running.scenario.model.routes == "multipath")
    for host, text in shown_pairs(lost):
        place = running.scenario.node("hosts", host.partition("/")[0], key=True)
        running.warnings.append(place.error(text, "a cable, or 'role: router' for who shall forward"))


def _nic(running: Running, end: str) -> Nic:
    host, _, device = end.partition("/")
    nic = running.sim.hosts[host].device(device)
    assert isinstance(nic, Nic)
    return nic


def _load(running: Running, name: str) -> None:
    checked = running.checked.objects[name]
    host = running.sim.hosts[checked.block.host]
    if checked.spec is None:
        _load_asm(running, name, host)
        return
    obj = running.objects[name] = _open(running, name, host)
    try:
        obj.load()
    except VerifierError:
        expected = running.checked.rejectable().get(name)
        if expected is None:
            raise
        refused = expected or checked.programs
        accepted = [row.name for row in obj.programs.values() if row.autoload and row.name not in refused]
        if accepted:
            obj.load(only=accepted)
        for program in refused:
            running.loads.append(_try_load(running, name, program, host))
    for loaded in obj.programs.values():
        if loaded.loaded:
            running.program_fds[name, loaded.name] = loaded.fd
            insns = len(loaded.insns) // 8
            running.loads.append(LoadOutcome(name, loaded.name, insns, loaded.verified_insns))


def _open(running: Running, name: str, host: Host) -> Object:
    checked = running.checked.objects[name]
    assert checked.spec is not None
    obj = Object(checked.spec, bpf=host.bpf, core_btf=running.checked.types_for(host.name))
    for variable, value in checked.block.rodata.items():
        with running.at("objects", name, "rodata", variable):
            obj.rodata[variable] = value
    for (owner, program), target in running.checked.targets.items():
        if owner == name:
            found = obj.programs[program]
            found.attach_prog_fd = running.program_fd(f"{target.object}/{target.program}")
            found.attach_target = target.function
    return obj


def _try_load(running: Running, name: str, program: str, host: Host) -> LoadOutcome:
    # one program by itself; its descriptor stays open even if nothing comes to hold it
    obj = _open(running, name, host)
    insns = len(obj.programs[program].spec.function.insns)
    try:
        obj.load(only=[program])
    except VerifierError as error:
        return LoadOutcome(name, program, insns, 0, error)
    loaded = obj.programs[program]
    running.program_fds[name, program] = loaded.fd
    return LoadOutcome(name, program, len(loaded.insns) // 8, loaded.verified_insns)


def _load_asm(running: Running, name: str, host: Host) -> None:
    checked = running.checked.objects[name]
    try:
        loaded = host.bpf.prog_load(
            checked.prog_type,
            encode(checked.insns),
            name=name.replace("-", "_")[: BPF_OBJ_NAME_LEN - 1],
            expected_attach_type=ASM_ATTACH_TYPES.get(checked.prog_type, 0),
        )
    except VerifierError as error:
        if name not in running.checked.rejectable():
            raise
        running.loads.append(LoadOutcome(name, name, len(checked.insns), 0, error))
        return
    running.program_fds[name, name] = loaded.fd
    running.loads.append(LoadOutcome(name, name, len(checked.insns), loaded.verified_insns))
