"""What the schema cannot see: names that lead nowhere, cables plugged in twice, files that are no objects.

All errors of a scenario come together. What Linux has and ebpfsim does not yet is told apart: NotModelled, with its
place, once there are no errors.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.types import Kind
from ebpfsim.btf.values import to_bytes
from ebpfsim.c_layout import layout
from ebpfsim.call import call_problem
from ebpfsim.costs import profile_names
from ebpfsim.errnos import Errno
from ebpfsim.errors import InputError, NotModelled, ScenarioError
from ebpfsim.frames import Sender
from ebpfsim.loader import Object, ObjectMap
from ebpfsim.records import own_structs
from ebpfsim.rng import Rng
from ebpfsim.scenario.check_tasks import check_expected_task, check_files, check_task
from ebpfsim.scenario.devices import check_devices, device_names
from ebpfsim.scenario.document import Key, Node
from ebpfsim.scenario.expect_net import check_drops, check_neighbour, check_snmp
from ebpfsim.scenario.flows import FLOW_EXPECTS, check_flow
from ebpfsim.scenario.frames import build_frames
from ebpfsim.scenario.hooks import HOOKS, LATER_HOOKS, VERDICTS, HookRow
from ebpfsim.scenario.hooks_objects import STRUCT_OPS
from ebpfsim.scenario.layers import PacketProblem, check_value, field_of, layer_class
from ebpfsim.scenario.load import Scenario
from ebpfsim.scenario.mapvalues import PERCPU, SOCKET_MAPS, check_wanted, record_type
from ebpfsim.scenario.networks import check_route, unjoined
from ebpfsim.scenario.objects import CheckedObject, place_in, read_block, read_types
from ebpfsim.scenario.packets import PacketError, PacketExpr
from ebpfsim.scenario.paths import PathProblem, locate
from ebpfsim.scenario.problems import raise_together
from ebpfsim.scenario.schema import AttachBlock, EventBlock, ExpectBlock, HostBlock, KernelBlock, TaskBlock
from ebpfsim.scenario.source import listed, shown
from ebpfsim.scenario.targets import FunctionTarget, check_target, check_untargeted
from ebpfsim.suggest import did_you_mean
from ebpfsim.syscall.task import SYSCTL as UNPRIVILEGED_BPF
from ebpfsim.uapi.bpf import MapType
from netstack.device import LinkStats
from netstack.sysctl import SYSCTLS, read_sysctls

__all__ = ["Checked", "check_scenario"]

Path = tuple[Key, ...]

COUNTERS = tuple(LinkStats().as_dict())
# hooks whose programs name the place in their SEC()
LOADED_FOR = ("fentry", "fexit", "fmod_ret", "lsm", "tp_btf")
# any device will do to see whether a packet string can be built
ANY_ADDRESS = "0.0.0.0"
_SOMEBODY = Sender("02:00:00:00:00:01", "192.0.2.1", lambda _address: None)


class Target(NamedTuple):
    """A program or map by object and name; the name is empty for all programs of the object."""

    object: str
    name: str


@dataclass
class Checked:
    """A scenario that can be run.

    ``packets`` are the packet strings by the index of their event, ``core_btf`` the types by the block that names them,
    ``targets`` the functions of other programs that programs are loaded for, ``records`` what ``--records`` asks for.
    """

    scenario: Scenario
    objects: dict[str, CheckedObject] = field(default_factory=dict)
    packets: dict[int, PacketExpr] = field(default_factory=dict)
    core_btf: dict[Path, Btf] = field(default_factory=dict)
    targets: dict[tuple[str, str], FunctionTarget] = field(default_factory=dict)
    tasks: dict[str, TaskBlock] = field(default_factory=dict)
    # what is odd but no error
    warnings: list[ScenarioError] = field(default_factory=list)
    # maps whose records somebody wants to see, beside those of expectations, with the names of their types
    records: dict[str, str | None] = field(default_factory=dict)

    def want_records(self, name: str, type_: str | None) -> None:
        """Let the records of a map be read, of a type by its name; InputError when there is no such map."""
        object_name, _, map_name = name.partition("/")
        found = self.objects.get(object_name)
        known = [f"{each}/{one}" for each, obj in self.objects.items() for one in obj.maps]
        if found is None or map_name not in found.maps:
            raise InputError("--records", f"unknown map '{name}'{did_you_mean(name, known)}")
        if found.maps[map_name].type not in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):  # type: ignore[attr-defined]
            raise InputError("--records", f"map '{name}' holds no records", "a ringbuf or perf_event_array")
        self.records[name] = type_

    def types_for(self, host: str) -> Btf | None:
        """Return the types that CO-RE on a host follows, None for those of the simulated kernel."""
        return self.core_btf.get(("hosts", host), self.core_btf.get(("kernel",)))

    def program(self, text: str) -> Target:
        """Return the program that ``fw/firewall``, or ``fw`` when it has just one, names."""
        object_name, _, name = text.partition("/")
        return Target(object_name, name or self.objects[object_name].programs[0])

    def rejectable(self) -> dict[str, list[str]]:
        """Return the programs whose load is expected to fail, by object; an empty list stands for all of it."""
        found: dict[str, list[str]] = {}
        for expect in self.scenario.model.expect:
            if expect.load is not None and expect.verdict == "reject":
                object_name, _, name = expect.load.partition("/")
                found.setdefault(object_name, []).extend([name] if name else [])
        return found


def check_scenario(scenario: Scenario) -> Checked:
    """Return the scenario with its objects read and its packet strings parsed; ScenarioError or NotModelled."""
    check = _Check(scenario)
    check.everything()
    raise_together(check.errors)
    if check.later:
        raise min(check.later, key=lambda row: row[0])[1]
    check.result.warnings += unjoined(scenario)
    return check.result


class _Check:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.model = scenario.model
        self.result = Checked(scenario)
        self.errors: list[ScenarioError] = []
        self.later: list[tuple[tuple[int, int], NotModelled]] = []
        self.link_ids: dict[str, str] = {}
        self.link_hooks: dict[str, str] = {}
        self.opened: dict[str, Object] = {}
        self.tasks = self.result.tasks

    def everything(self) -> None:
        self.hosts()
        self.links()
        self.objects()
        self.sockets()
        for text, values in self.model.maps.items():
            self.map_contents(("maps",), text, values)
        for index, attach in enumerate(self.model.attach):
            self.attach(("attach", index), attach)
        for index, event in sorted(enumerate(self.model.events), key=lambda row: row[1].at):
            path = ("events", index)
            self.host_name((*path, "host"), event.host)
            EVENT_CHECKS[event.kind](self, path, event)
        check_untargeted(self, self.result.objects, self.result.targets)
        for index, expect in enumerate(self.model.expect):
            EXPECT_CHECKS[expect.kind](self, ("expect", index), expect)

    # what errors are made of

    def wrong(self, path: Path, problem: str, hint: str = "", *, key: bool = False) -> None:
        self.errors.append(self.scenario.node(*path, key=key).error(problem, hint))

    def unknown(self, path: Path, what: str, name: object, known: Iterable[str], *, key: bool = False) -> None:
        names = list(known)
        hint = f"there is {listed(names)}" if names else f"there is no {what} here"
        self.wrong(path, f"unknown {what} {shown(name)}{did_you_mean(name, names)}", hint, key=key)

    def not_modelled(self, path: Path, feature: str, *, key: bool = False) -> None:
        node = self.scenario.node(*path, key=key)
        error = NotModelled(feature)
        node.locate(error)
        self.later.append(((node.mark.line, node.mark.col), error))

    # names

    def host_name(self, path: Path, name: str | None) -> HostBlock | None:
        if name is None:
            return None
        if name not in self.model.hosts:
            self.unknown(path, "host", name, self.model.hosts)
            return None
        return self.model.hosts[name]

    def device_name(self, path: Path, host: str | None, device: str | None) -> None:
        if host is None or device is None or host not in self.model.hosts:
            return
        known = device_names(self.model.hosts[host])
        if device not in known:
            self.unknown(path, f"device of '{host}':", device, known)

    def endpoint(self, path: Path, text: str, what: str, *, cables: bool = True) -> bool:
        host, slash, device = text.partition("/")
        if not slash:
            self.wrong(path, f"{what} {shown(text)} is not HOST/INTERFACE", "client/eth0")
        elif host not in self.model.hosts:
            self.unknown(path, "host", host, self.model.hosts)
        elif not cables:
            self.device_name(path, host, device)
            return device in device_names(self.model.hosts[host])
        elif device not in self.model.hosts[host].interfaces:
            self.unknown(path, f"interface of '{host}':", device, self.model.hosts[host].interfaces)
        else:
            return True
        return False

    def object_name(self, path: Path, name: str) -> CheckedObject | None:
        found = self.result.objects.get(name)
        if found is None and name not in self.model.objects:
            self.unknown(path, "object", name, self.model.objects)
        return found

    def program_name(self, path: Path, text: str, *, whole: bool = False) -> CheckedObject | None:
        object_name, slash, name = text.partition("/")
        found = self.object_name(path, object_name)
        if found is None:
            return None
        if slash and name not in found.programs:
            self.unknown(path, f"program of '{object_name}':", name, found.programs)
            return None
        if not slash and not whole and len(found.programs) != 1:
            hint = f"one of {listed(f'{object_name}/{program}' for program in found.programs)}"
            self.wrong(
                path, f"object '{object_name}' has {len(found.programs)} programs, expected the name of one", hint
            )
            return None
        return found

    def table_name(self, path: Path, text: str) -> CheckedObject | None:
        object_name, _, name = text.partition("/")
        found = self.object_name(path, object_name)
        tables = self.opened[object_name].struct_ops if object_name in self.opened else {}
        if found is not None and name not in tables:
            self.unknown(path, f"table of functions of '{object_name}':", name, tables)
            return None
        return found

    def map_name(self, path: Path, text: str, *, key: bool = False) -> ObjectMap | None:
        object_name, slash, name = text.partition("/")
        if not slash:
            self.wrong(path, f"map {shown(text)} is not OBJECT/MAP", "fw/blocked", key=key)
        elif object_name not in self.model.objects:
            self.unknown(path, "object", object_name, self.model.objects, key=key)
        elif object_name in self.result.objects:
            maps = self.opened[object_name].maps if object_name in self.opened else {}
            known = {**maps, **{row.spec.section_name: row for row in maps.values() if row.spec.is_data}}
            if name in known:
                return known[name]
            self.unknown(path, f"map of '{object_name}':", name, known, key=key)
        return None

    def link_name(self, path: Path, name: str) -> None:
        if name not in self.link_ids:
            self.unknown(path, "link", name, self.link_ids)

    # blocks

    def hosts(self) -> None:
        if "hosts" not in self.model.model_fields_set and self.model.topology is None:
            self.wrong((), "missing key 'hosts'", "hosts: {a: {}}, or topology: line")
        elif not self.model.hosts:
            self.wrong(("hosts",), "a scenario has at least one host", "hosts: {a: {}}")
        self.kernel(("kernel",), self.model.kernel)
        for name, host in self.model.hosts.items():
            path: Path = ("hosts", name)
            self.kernel(path, host)
            addresses: dict[str, str] = {}
            for device, interface in host.interfaces.items():
                here = (*path, "interfaces", device)
                cpus = host.cpus or self.model.kernel.cpus or 1
                for index, cpu in enumerate(interface.rps):
                    if cpu >= cpus:
                        self.wrong((*here, "rps", index), f"host '{name}' has no CPU {cpu}", f"0 to {cpus - 1}")
                if device == "lo":
                    self.wrong(here, "interface 'lo' is there from the start, with 127.0.0.1/8", key=True)
                for index, address in enumerate(interface.address):
                    owner = addresses.setdefault(str(address.ip), device)
                    if owner != device:
                        self.wrong((*here, "address", index), f"address {address.ip} is that of '{owner}' already")
            check_devices(self, path, name, host)
            for index, route in enumerate(host.routes):
                here = (*path, "routes", index)
                if route.netns is not None and route.netns not in host.namespaces:
                    self.unknown((*here, "netns"), f"namespace of '{name}':", route.netns, host.namespaces)
                self.device_name((*here, "device"), name, route.device)
                if route.via is not None:
                    self.gateway((*here, "via"), route.via)
                for number, hop in enumerate(route.nexthops):
                    self.gateway((*here, "nexthops", number, "via"), hop.via)
                check_route(self, here, route)
            for index, rule in enumerate(host.rules):
                here = (*path, "rules", index)
                if rule.netns is not None and rule.netns not in host.namespaces:
                    self.unknown((*here, "netns"), f"namespace of '{name}':", rule.netns, host.namespaces)
                self.device_name((*here, "iif"), name, rule.iif)
            check_files(self, (*path, "files"), host.files)

    def gateway(self, path: Path, text: str) -> None:
        try:
            ip_address(text)
        except ValueError:
            self.wrong(path, f"gateway {shown(text)} is not an address", "10.0.0.1")

    def kernel(self, path: Path, block: KernelBlock) -> None:
        if block.costs is not None and block.costs not in profile_names():
            self.unknown((*path, "costs"), "cost profile", block.costs, profile_names())
        if block.btf is not None:
            try:
                place = self.scenario.node(*path, "btf")
                self.result.core_btf[path] = read_types(block.btf, place, self.scenario.folder)
            except ScenarioError as error:
                self.errors.append(error)
        for name, value in (block.sysctl or {}).items():
            here = (*path, "sysctl", name)
            if isinstance(value, bool) or not isinstance(value, int | str):
                self.wrong(here, f"sysctl {name}: expected a number or text, have {shown(value)}")
                continue
            try:
                known = read_sysctls({name: value})
            except NotModelled as error:
                self.not_modelled(here, f"{error.feature}{did_you_mean(name, SYSCTLS)}", key=True)
            except InputError as error:
                self.wrong(here, error.problem)
            else:
                if name not in known and name != UNPRIVILEGED_BPF:
                    self.not_modelled(here, f"sysctl {name}", key=True)

    def links(self) -> None:
        used: dict[str, Node] = {}
        for index, link in enumerate(self.model.links):
            for side, end in enumerate(link.ends):
                path = ("links", index, "ends", side)
                if not self.endpoint(path, end, "link end"):
                    continue
                if end in used:
                    line = used[end].mark.line + 1
                    self.wrong(path, f"interface '{end}' has a link already, in line {line}", "one cable an interface")
                used.setdefault(end, self.scenario.node(*path))

    def objects(self) -> None:
        for name, block in self.model.objects.items():
            path: Path = ("objects", name)
            self.host_name((*path, "host"), block.host)
            if block.pin is not None:
                self.not_modelled((*path, "pin"), "'pin' of an object", key=True)
            try:
                found = read_block(name, block, self.scenario.node(*path), self.scenario.folder)
            except ScenarioError as error:
                self.errors.append(error)
                continue
            self.result.objects[name] = found
            if found.spec is not None:
                self.opened[name] = Object(found.spec)
                self.rodata(name, block.rodata)

    def sockets(self) -> None:
        bound: dict[tuple[str, int], dict[str, str]] = {}
        for name, socket in self.model.sockets.items():
            path: Path = ("sockets", name)
            self.host_name((*path, "host"), socket.host)
            address, port = socket.udp
            if ":" in address:
                self.not_modelled((*path, "udp"), "IPv6 sockets")
            here = bound.setdefault((socket.host, port), {})
            # all addresses overlap with each
            meets = [address, ANY_ADDRESS] if address != ANY_ADDRESS else list(here)
            owner = next((here[each] for each in meets if each in here), "")
            if owner and not socket.reuseport:
                self.wrong((*path, "udp"), f"port {port} of '{socket.host}' is that of socket '{owner}' already")
            here.setdefault(address, name)

    def rodata(self, name: str, variables: Mapping[str, object]) -> None:
        scratch = self.opened.get(name)
        for variable, value in variables.items() if scratch is not None else ():
            assert scratch is not None
            path: Path = ("objects", name, "rodata", variable)
            if variable not in list(scratch.rodata):
                self.unknown(path, f"constant of '{name}':", variable, scratch.rodata, key=True)
            else:
                self.try_value(path, partial(scratch.rodata.__setitem__, variable, value))

    def map_contents(self, path: Path, text: str, values: object) -> None:
        found = self.map_name((*path, text), text, key=True)
        if not isinstance(values, dict):
            problem = f"map '{text}': expected a mapping from keys to values, have {shown(values)}"
            self.wrong((*path, text), problem, "{10.0.0.66: 1}")
        elif found is not None:
            for key, value in values.items():
                here = (*path, text, key)
                self.try_value(here, partial(found.encode_key, key), key=True)
                self.map_value(here, text, found, value)

    def map_value(self, path: Path, text: str, found: ObjectMap, value: object) -> None:
        # what is written into a map
        if value is None:
            return
        if found.type in SOCKET_MAPS and isinstance(value, str):
            if value not in self.model.sockets:
                self.unknown(path, "socket", value, self.model.sockets)
            return
        if found.type == MapType.PROG_ARRAY and isinstance(value, str):
            self.program_name(path, value)
            return
        host = self.model.objects[text.partition("/")[0]].host
        if found.type in PERCPU and isinstance(value, list) and host in self.model.hosts:
            cpus = self.model.hosts[host].cpus or self.model.kernel.cpus or 1
            if len(value) != cpus:
                self.wrong(path, f"{len(value)} values, host '{host}' has {cpus} CPUs")
                return
        self.try_value(path, partial(found.encode_value, value))

    def wanted_value(self, path: Path, text: str, found: ObjectMap, value: object) -> None:
        # what is expected of a map
        spec = self.result.objects[text.partition("/")[0]].spec
        if value is not None and spec is not None:
            self.try_value(path, partial(check_wanted, found, spec.btf, value))

    def try_value(self, path: Path, action: Callable[[], object], *, key: bool = False) -> None:
        try:
            action()
        except InputError as error:
            self.wrong(path, f"{error.where}: {error.problem}" if error.where else error.problem, error.hint, key=key)

    def attach(self, path: Path, attach: AttachBlock, *, event: bool = False) -> None:
        find = self.table_name if attach.hook == STRUCT_OPS else self.program_name
        found = find((*path, "program"), attach.program)
        if attach.hook in HOOKS:
            self.place(path, attach, found, HOOKS[attach.hook])
        elif attach.hook in LATER_HOOKS:
            self.not_modelled((*path, "hook"), f"hook '{attach.hook}'")
        else:
            self.unknown((*path, "hook"), "hook", attach.hook, [*HOOKS, *LATER_HOOKS])
        host = self.host_name((*path, "host"), attach.host)
        if found is not None and host is not None and attach.host != found.block.host:
            problem = f"program '{attach.program}' is loaded on host '{found.block.host}', not on '{attach.host}'"
            self.wrong((*path, "host"), problem)
        if attach.replace is not None:
            self.link_name((*path, "replace"), attach.replace)
            if not event:
                self.wrong((*path, "replace"), "'replace' belongs to an attachment under 'events'", key=True)
        if attach.old is not None:
            self.program_name((*path, "old"), attach.old)
            if attach.replace is None:
                self.wrong((*path, "old"), "'old' goes with 'replace'", key=True)
        if attach.refused is not None and attach.refused not in Errno.__members__:
            self.unknown((*path, "refused"), "errno", attach.refused, ("EPERM", "EBUSY", "EEXIST", "EINVAL"))
        if attach.id is not None:
            if attach.id in self.link_ids:
                self.wrong((*path, "id"), f"link id '{attach.id}' is given twice", "another id")
            self.link_ids.setdefault(attach.id, attach.program)
            self.link_hooks.setdefault(attach.id, attach.hook)

    def place(self, path: Path, attach: AttachBlock, found: CheckedObject | None, row: HookRow) -> None:
        where = getattr(attach, row.place) if row.place else ""
        if where is None:
            self.wrong(path, f"hook '{attach.hook}' needs the key '{row.place}'")
        elif found is not None and row.place == "device":
            self.device_name((*path, "device"), found.block.host, where)
        elif row.place == "socket" and where not in self.model.sockets:
            self.unknown((*path, "socket"), "socket", where, self.model.sockets)
        elif found is not None and row.at_program(str(where)):
            target = check_target(self, (*path, "target"), attach, found, self.result.objects)
            if target is not None:
                self.result.targets.setdefault(self.result.program(attach.program), target)
        elif found is not None and attach.hook in LOADED_FOR and found.spec is not None:
            wanted = found.spec.programs[self.result.program(attach.program).name].attach_target
            if wanted and wanted != where:
                problem = f"program '{attach.program}' was loaded for '{wanted}', not for {shown(where)}"
                self.wrong((*path, "target"), problem, f"target: {wanted}")
        if attach.mode == "offload":
            self.not_modelled((*path, "mode"), "XDP offload to hardware")
        for name in sorted(
            attach.model_fields_set
            - {"id", "program", "hook", "host", "replace", "old", "refused", row.place, *row.keys}
        ):
            self.wrong((*path, name), f"key '{name}' does not belong to hook '{attach.hook}'", key=True)
        if attach.map is not None and "map" in row.keys:
            self.map_name((*path, "map"), attach.map)
        for name in ("before", "after"):
            if name in row.keys and getattr(attach, name) is not None:
                self.link_name((*path, name), getattr(attach, name))

    # events

    def event_send(self, path: Path, event: EventBlock) -> None:
        self.device_name((*path, "device"), event.host, event.device)
        node = self.scenario.node(*path, "send")
        try:
            expr = PacketExpr(str(event.send))
            build_frames(expr, _SOMEBODY, Rng(self.model.seed), f"events.{path[1]}.send", event.count or 1)
        except PacketError as error:
            self.errors.append(place_in(node, error.start, error.width).error(error.problem, error.hint))
        else:
            self.result.packets[int(path[1])] = expr
        if event.every is not None and event.count is None and event.every.highest == 0:
            self.wrong((*path, "every"), "'every' of 0 says nothing")

    def event_replay(self, path: Path, event: EventBlock) -> None:
        self.device_name((*path, "device"), event.host, event.device)
        try:
            locate(self.scenario.folder, str(event.replay), "capture")
        except PathProblem as problem:
            self.wrong((*path, "replay"), problem.problem, problem.hint)

    def event_attach(self, path: Path, event: EventBlock) -> None:
        assert event.attach is not None
        self.attach((*path, "attach"), event.attach, event=True)

    def event_socket(self, path: Path, event: EventBlock) -> None:
        if event.socket not in self.model.sockets:
            self.unknown((*path, "socket"), "socket", event.socket, self.model.sockets)
        for key in ("connect", "to"):
            address = getattr(event, key)
            if address is not None and ":" in address[0]:
                self.not_modelled((*path, key), "IPv6 sockets")
            elif address is not None and not address[0][0].isdigit() and address[0] not in self.model.hosts:
                self.unknown((*path, key), "host", address[0], self.model.hosts)

    def event_flow(self, path: Path, event: EventBlock) -> None:
        check_flow(self, path, event)

    def event_detach(self, path: Path, event: EventBlock) -> None:
        self.link_name((*path, "detach"), str(event.detach))

    def event_read(self, path: Path, event: EventBlock) -> None:
        self.iter_name((*path, "read"), str(event.read))

    def iter_name(self, path: Path, name: str) -> None:
        self.link_name(path, name)
        if self.link_hooks.get(name, "iter") != "iter":
            self.wrong(path, f"link '{name}' is no iterator, nothing can be read of it")

    def event_map(self, path: Path, event: EventBlock) -> None:
        for text, values in (event.map or {}).items():
            self.map_contents((*path, "map"), text, values)

    def event_task(self, path: Path, event: EventBlock) -> None:
        check_task(self, path, event)

    def event_call(self, path: Path, event: EventBlock) -> None:
        assert event.call is not None
        self.host_name((*path, "host"), event.host)
        problem, hint = call_problem(event.call.function, event.call.args)
        if problem:
            self.wrong((*path, "call", "function" if "no function" in problem else "args"), problem, hint)

    # expectations

    def expect_link(self, path: Path, expect: ExpectBlock) -> None:
        self.link_name((*path, "link"), str(expect.link))
        if self.link_hooks.get(str(expect.link)) == "freplace":
            problem = "what replaces a function is called like it, and nobody counts its runs"
            self.wrong((*path, "link"), problem, "a map in which the program counts")
        for verdict in expect.verdicts or {}:
            # what a fmod_ret or an LSM program decides is a number
            if verdict not in VERDICTS and not verdict.removeprefix("-").isdigit():
                self.unknown((*path, "verdicts", verdict), "verdict", verdict, VERDICTS, key=True)

    def expect_map(self, path: Path, expect: ExpectBlock) -> None:
        text = str(expect.map)
        found = self.map_name((*path, "map"), text)
        given = expect.model_fields_set
        if "key" in given and "equals" not in given:
            self.wrong((*path, "key"), "'key' needs 'equals'", "equals: 1, or equals: null for no entry", key=True)
        rows: list[tuple[Path, object, object]] = []
        if "key" in given:
            rows.append(((*path, "equals"), expect.key, expect.equals))
            if found is not None:
                self.try_value((*path, "key"), partial(found.encode_key, expect.key))
        for name in ("equals", "contains"):
            entries = getattr(expect, name)
            if name not in given or (name == "equals" and "key" in given):
                continue
            if not isinstance(entries, dict):
                problem = f"'{name}' of a map is a mapping from keys to values, have {shown(entries)}"
                self.wrong((*path, name), problem, "{1: {packets: 100}}, or 'key' beside it")
                continue
            rows += [((*path, name, key), key, value) for key, value in entries.items()]
            for key in entries if found is not None else ():
                assert found is not None
                self.try_value((*path, name, key), partial(found.encode_key, key), key=True)
        for place, _, value in rows if found is not None else ():
            assert found is not None
            self.wanted_value(place, text, found, value)

    def expect_packets(self, path: Path, expect: ExpectBlock) -> None:
        packets = expect.packets
        assert packets is not None
        here = (*path, "packets")
        self.host_name((*here, "host"), packets.host)
        self.device_name((*here, "device"), packets.host, packets.device)
        if packets.verdict is not None and packets.verdict not in VERDICTS:
            self.unknown((*here, "verdict"), "verdict", packets.verdict, VERDICTS)
        for layer, fields in (packets.match or {}).items():
            place = (*here, "match", layer)
            try:
                layer_class(layer)
            except PacketProblem as problem:
                self.wrong(place, problem.problem, problem.hint, key=True)
                continue
            for name, value in (fields or {}).items():
                try:
                    field_of(layer, name)
                except PacketProblem as problem:
                    self.wrong((*place, name), problem.problem, problem.hint, key=True)
                    continue
                try:
                    check_value(layer, name, value)
                except PacketProblem as problem:
                    self.wrong((*place, name), problem.problem, problem.hint)

    def expect_socket(self, path: Path, expect: ExpectBlock) -> None:
        if expect.socket not in self.model.sockets:
            self.unknown((*path, "socket"), "socket", expect.socket, self.model.sockets)
        if expect.contains is not None and not isinstance(expect.contains, str):
            self.wrong((*path, "contains"), f"'contains' of a socket is text, have {shown(expect.contains)}")

    def expect_flow(self, path: Path, expect: ExpectBlock) -> None:
        flows = {event.flow: event.flow_type for event in self.model.events if event.flow is not None}
        if expect.flow not in flows:
            self.unknown((*path, "flow"), "flow", expect.flow, list(flows))
            return
        known = FLOW_EXPECTS[flows[expect.flow]]
        for name in sorted(expect.model_fields_set - {"flow", *known}):
            problem = f"a flow of type {flows[expect.flow]} has no '{name}'"
            self.wrong((*path, name), problem, f"it has {listed(known)}", key=True)

    def expect_device(self, path: Path, expect: ExpectBlock) -> None:
        self.endpoint((*path, "device"), str(expect.device), "device", cables=False)
        for counter in expect.counters or {}:
            if counter not in COUNTERS:
                self.unknown((*path, "counters", counter), "counter", counter, COUNTERS, key=True)

    def expect_lines(self, path: Path, expect: ExpectBlock) -> None:
        self.host_name((*path, expect.kind), expect.trace_pipe or expect.audit)
        if not isinstance(expect.contains, str):
            example = "blocked" if expect.kind == "trace_pipe" else "op=LOAD"
            self.wrong(path, f"'{expect.kind}' needs 'contains' with a text", f'contains: "{example}"')

    def expect_read(self, path: Path, expect: ExpectBlock) -> None:
        self.iter_name((*path, "read"), str(expect.read))

    def expect_load(self, path: Path, expect: ExpectBlock) -> None:
        self.program_name((*path, "load"), str(expect.load), whole=True)
        if expect.verdict is None:
            self.wrong(path, "'load' needs 'verdict'", "verdict: accept, or verdict: reject")
        if expect.verdict == "accept" and (expect.errno or expect.message):
            self.wrong(path, "'errno' and 'message' go with 'verdict: reject'")
        if expect.errno is not None and expect.errno not in Errno.__members__:
            self.unknown((*path, "errno"), "errno", expect.errno, ("EACCES", "EINVAL", "EPERM", "E2BIG", "ENOMEM"))

    def expect_records(self, path: Path, expect: ExpectBlock) -> None:
        text = str(expect.records)
        found = self.map_name((*path, "records"), text)
        if found is None:
            return
        if found.type not in (MapType.RINGBUF, MapType.PERF_EVENT_ARRAY):
            kind = found.type.lower if isinstance(found.type, MapType) else str(found.type)
            expected = "expected ringbuf or perf_event_array"
            self.wrong((*path, "records"), f"map '{text}' is of type {kind}, {expected}")
            return
        spec = self.result.objects[text.partition("/")[0]].spec
        btf = spec.btf if spec is not None else None
        wanted = [name for name in ("first", "last", "contains") if name in expect.model_fields_set]
        try:
            written = layout(expect.type) if expect.type is not None else None
        except InputError as error:
            self.wrong((*path, "type"), error.problem, error.hint)
            return
        btf, type_id = written if written is not None else (btf, record_type(found, btf, expect.type))
        if type_id is None or btf is None:
            known = [btf.name_of(row) for row in btf.ids_of_kind(Kind.STRUCT)] if btf is not None else []
            if expect.type is not None:
                self.unknown((*path, "type"), "struct", expect.type, [name for name in known if name])
            elif wanted and not own_structs(found):
                self.wrong(path, "records have no type of their own", "type: NAME, the name of a struct in C")
            return
        for name in wanted:
            self.try_value((*path, name), partial(to_bytes, btf, type_id, getattr(expect, name), f"'{name}'"))

    def expect_task(self, path: Path, expect: ExpectBlock) -> None:
        check_expected_task(self, path, expect)


EventCheck = Callable[[_Check, Path, EventBlock], None]
ExpectCheck = Callable[[_Check, Path, ExpectBlock], None]

EVENT_CHECKS: dict[str, EventCheck] = {
    "send": _Check.event_send,
    "replay": _Check.event_replay,
    "attach": _Check.event_attach,
    "detach": _Check.event_detach,
    "read": _Check.event_read,
    "map": _Check.event_map,
    "socket": _Check.event_socket,
    "flow": _Check.event_flow,
    "task": _Check.event_task,
    "call": _Check.event_call,
}
EXPECT_CHECKS: dict[str, ExpectCheck] = {
    "link": _Check.expect_link,
    "map": _Check.expect_map,
    "packets": _Check.expect_packets,
    "socket": _Check.expect_socket,
    "flow": _Check.expect_flow,
    "device": _Check.expect_device,
    "snmp": check_snmp,
    "drops": check_drops,
    "neighbour": check_neighbour,
    "trace_pipe": _Check.expect_lines,
    "audit": _Check.expect_lines,
    "read": _Check.expect_read,
    "load": _Check.expect_load,
    "task": _Check.expect_task,
    "records": _Check.expect_records,
}
