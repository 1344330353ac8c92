"""What a scenario may say: one pydantic model a block, keys spelled as in the file.

Types are strict (text is never turned into numbers), unknown keys are refused, keys that begin with ``x-`` are free
everywhere but inside map contents. Blocks that Linux has and ebpfsim does not yet are accepted here and answered with
"not modelled" by ``check.py``, so that they are told apart from misspelled ones.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ebpfsim.errors import InputError
from ebpfsim.scenario.devices import DEVICE_TYPES
from ebpfsim.scenario.flows import (
    FLOW_EXPECTS,
    FLOW_KEYS,
    Interval,
    Size,
    SourceNetwork,
    refuse_flow,
)
from ebpfsim.scenario.source import listed
from ebpfsim.scenario.units import (
    Address,
    Count,
    DeviceName,
    Duration,
    FilePath,
    IfName,
    Mac,
    Name,
    Percentage,
    PortAddress,
    PortTarget,
    Rate,
    ReturnValue,
    Subnet,
    Wrong,
)
from ebpfsim.topology import SIZES, plan_topology

__all__ = [
    "EVENT_KINDS",
    "EXPECT_KINDS",
    "AttachBlock",
    "CallBlock",
    "DeviceBlock",
    "EventBlock",
    "ExpectBlock",
    "FileBlock",
    "HostBlock",
    "InterfaceBlock",
    "KernelBlock",
    "LinkBlock",
    "ObjectBlock",
    "PacketsBlock",
    "RouteBlock",
    "RuleBlock",
    "ScenarioModel",
    "SocketBlock",
    "TaskBlock",
    "TopologyBlock",
]

# an event's own key -> the keys that may stand beside it; every event has `at` and may have `host`
EVENT_KINDS: dict[str, tuple[str, ...]] = {
    "send": ("host", "device", "count", "every"),
    "replay": ("host", "device", "speed"),
    "attach": (),
    "detach": (),
    "read": (),
    "map": (),
    "socket": ("connect", "to", "data", "count", "every"),
    "flow": FLOW_KEYS,
    "task": ("host",),
    "call": ("host",),
}
# an expectation's own key -> the keys that may stand beside it
EXPECT_KINDS: dict[str, tuple[str, ...]] = {
    "link": ("runs", "verdicts"),
    "map": ("key", "equals", "contains", "entries"),
    "packets": ("count",),
    "socket": ("received", "contains", "payloads", "refused"),
    "flow": tuple(dict.fromkeys(key for keys in FLOW_EXPECTS.values() for key in keys)),
    "device": ("counters",),
    "snmp": ("counters",),
    "drops": ("reasons", "total"),
    "neighbour": ("address", "state"),
    "trace_pipe": ("contains", "count"),
    "audit": ("contains", "count"),
    "read": ("contains", "count"),
    "load": ("verdict", "errno", "message"),
    "task": ("step", "errno", "result", "ended"),
    "records": ("type", "count", "first", "last", "contains"),
}
MAX_CPUS = 64
MAX_QUEUES = 64
MAX_WIRE_QUEUE = 1_000_000
MAX_FRAMES = 1_000_000
MAX_ID = 1 << 32  # uid_t, gid_t


def _without_free_keys(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: item for key, item in value.items() if not (isinstance(key, str) and key.startswith("x-"))}


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


class Block(BaseModel):
    """A mapping of the file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _free_keys(cls, value: object) -> object:
        return _without_free_keys(value)

    @model_validator(mode="after")
    def _no_empty_keys(self) -> Self:
        for name in sorted(self.model_fields_set):
            if getattr(self, name) is None and type(self).model_fields[name].annotation is not Any:
                raise Wrong(f"key '{name}' has no value", "leave it out, or give it one", key=name)
        return self


class KernelBlock(Block):
    """Settings of simulated kernels: defaults for all hosts, or one host's.

    ``btf`` is a file with the types of another kernel, which CO-RE relocations follow instead of the simulated one's;
    ``insn_budget`` is how many instructions one run of a program may execute before it counts as a runaway.
    """

    cpus: Annotated[int, Field(ge=1, le=MAX_CPUS)] | None = None
    mitigations: Literal["auto", "off"] | None = None
    costs: str | None = None
    stats: bool | None = None
    debug: bool | None = None
    engine: Literal["auto", "interp", "jit"] | None = None
    insn_budget: Annotated[int, Field(ge=1, lt=1 << 62)] | None = None
    btf: str | None = None
    sysctl: dict[str, Any] | None = None


class InterfaceBlock(Block):
    """A network interface. ``address`` is one address with its prefix length, or a list of them.

    ``rps`` are the CPUs among which received packets are spread by their flow (rps_cpus of all queues). ``qdisc`` is
    the root discipline: its ``kind`` (netem, tbf, prio, fq, htb, pfifo, pfifo_fast) and options. With ``advertise`` a
    router sends advertisements there, with these prefixes, of which hosts make addresses.
    """

    address: Annotated[list[Address], BeforeValidator(_as_list, json_schema_input_type=Address | list[Address])] = []
    mac: Mac | None = None
    mtu: Annotated[int, Field(ge=68, le=65535)] = 1500
    queues: Annotated[int, Field(ge=1, le=MAX_QUEUES)] = 1
    rps: list[Annotated[int, Field(ge=0, lt=MAX_CPUS)]] = []
    advertise: list[Subnet] | None = None
    qdisc: dict[str, Any] | None = None


class DeviceBlock(Block):
    """A device made of software, by its ``type`` as ``ip link add`` has it; see ``ebpfsim.scenario.devices``.

    ``peer`` names the other end of a pair, ``link`` the device below, ``ports`` those that it is made of. Names are
    NAMESPACE/DEVICE for devices of a namespace.
    """

    type: Literal[
        "bond", "bridge", "dummy", "geneve", "gre", "gretap", "ifb", "ip6tnl", "ipip", "macvlan", "netkit", "sit",
        "tun", "veth", "vlan", "vxlan"
    ]  # fmt: skip
    address: Annotated[list[Address], BeforeValidator(_as_list, json_schema_input_type=Address | list[Address])] = []
    peer_address: Annotated[
        list[Address], BeforeValidator(_as_list, json_schema_input_type=Address | list[Address])
    ] = []
    mac: Mac | None = None
    peer_mac: Mac | None = None
    mtu: Annotated[int, Field(ge=68, le=65535)] | None = None
    peer: DeviceName | None = None
    link: DeviceName | None = None
    ports: list[DeviceName] | None = None
    id: Annotated[int, Field(ge=0, lt=1 << 24)] | None = None
    protocol: Literal["802.1Q", "802.1ad"] | None = None
    mode: str | None = None
    policy: Literal["forward", "blackhole"] | None = None
    peer_policy: Literal["forward", "blackhole"] | None = None
    scrub: Literal["none", "default"] | None = None
    peer_scrub: Literal["none", "default"] | None = None
    remote: str | None = None
    local: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    key: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    external: bool | None = None
    ttl: Annotated[int, Field(ge=0, le=255)] | None = None
    tos: Annotated[int, Field(ge=0, le=255)] | None = None
    csum: bool | None = None
    learning: bool | None = None
    df: bool | None = None

    @model_validator(mode="after")
    def _keys_of_its_type(self) -> "DeviceBlock":
        kind = DEVICE_TYPES[self.type]
        for key in kind.needs:
            if key not in self.model_fields_set:
                raise Wrong(f"a device of type {self.type} needs the key '{key}'")
        for key in sorted(self.model_fields_set - {"type", *kind.needs, *kind.may}):
            hint = f"it has {listed(kind.needs + kind.may)}"
            raise Wrong(f"a device of type {self.type} has no key '{key}'", hint, key=key)
        return self


class RouteBlock(Block):
    """A static route of a host, or of its namespace ``netns``: ``via`` a gateway, by a ``device``, or by several
    ``nexthops``. A ``type`` of unreachable, prohibit or blackhole refuses packets.
    """

    to: Subnet
    via: str | None = None
    device: DeviceName | None = None
    netns: Name | None = None
    type: Literal["unicast", "unreachable", "prohibit", "blackhole"] = "unicast"
    metric: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    table: Annotated[int, Field(ge=1, lt=1 << 32)] = 254
    nexthops: list["NextHopBlock"] = []


class NextHopBlock(Block):
    """One of several next hops of a route: its share of the flows is its ``weight`` of all."""

    via: str
    weight: Annotated[int, Field(ge=1, le=256)] = 1


class RuleBlock(Block):
    """A routing rule (``ip rule``): packets from a ``source``, ``to`` a network, with a ``mark`` or that came in by the
    device ``iif`` are looked up in ``table``; the lowest ``priority`` comes first. ``family`` is 6 for one of IPv6 that
    names no network.
    """

    table: Annotated[int, Field(ge=1, lt=1 << 32)]
    priority: Annotated[int, Field(ge=0, lt=1 << 32)] = 32765
    source: Subnet | None = None
    to: Subnet | None = None
    mark: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    iif: DeviceName | None = None
    family: Literal[4, 6] = 4
    netns: Name | None = None


def _as_file(value: object) -> object:
    return {"content": value} if isinstance(value, str) else {} if value is None else value


class FileBlock(Block):
    """A file of a host: what it holds, its permissions (``mode: 0o600``), and whose it is.

    Text alone stands for ``content``. Files without ``mode`` have 0o644, directories 0o755.
    """

    content: str | None = None
    mode: Annotated[int, Field(ge=0, le=0o7777)] | None = None
    uid: Annotated[int, Field(ge=0, lt=MAX_ID)] = 0
    gid: Annotated[int, Field(ge=0, lt=MAX_ID)] = 0


class BinaryBlock(Block):
    """A program that tasks call functions of: ``functions``, perhaps with their offsets in the file, and static
    tracepoints (``usdt``) PROVIDER:NAME with the places of their arguments, such as ``8@%rdi``; or a real ELF ``file``.
    """

    functions: list[str] | dict[str, Annotated[int, Field(ge=0, lt=1 << 40)]] = []
    usdt: dict[str, list[str]] = {}
    file: str | None = None


class HostBlock(KernelBlock):
    """One simulated kernel, its interfaces, and what its file system has besides /etc/passwd, /bin/sh and the like.

    ``role``: a router forwards packets (IPv4 and IPv6); all interfaces of a switch are ports of one bridge, ``br0``.
    """

    role: Literal["host", "router", "switch"] | None = None
    interfaces: Annotated[dict[IfName, InterfaceBlock], BeforeValidator(_without_free_keys)] = {}
    namespaces: list[Name] = []
    devices: Annotated[dict[DeviceName, DeviceBlock], BeforeValidator(_without_free_keys)] = {}
    routes: list[RouteBlock] = []
    rules: list[RuleBlock] = []
    binaries: dict[FilePath, BinaryBlock] = {}
    files: dict[
        FilePath, Annotated[FileBlock, BeforeValidator(_as_file, json_schema_input_type=str | FileBlock | None)]
    ] = {}


class LinkBlock(Block):
    """A cable between two interfaces, ``HOST/INTERFACE`` each."""

    ends: Annotated[list[str], Field(min_length=2, max_length=2)]
    rate: Rate | None = None
    delay: Duration = 0
    loss: Percentage = 0.0
    queue: Annotated[int, Field(ge=0, le=MAX_WIRE_QUEUE)] = 1000


def _as_topology(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


class TopologyBlock(Block):
    """A network by name, whose hosts and links are added to the others, with routes (``ebpfsim.topology``).

    ``line``: ``n`` nodes, hosts at its ends; ``star``: ``n`` hosts around a router; ``lan``: ``n`` hosts around a
    switch; ``fat-tree`` of ``k``; ``clos``: ``spines``, ``leaves``, and ``hosts`` of each leaf. ``rate``, ``delay``,
    ``loss`` and ``queue`` are those of every cable; with ``ipv6`` there are addresses of IPv6 as well. Its name alone
    stands for ``type``. What is said under ``hosts`` about one of its hosts is added to that one.
    """

    type: Literal["clos", "fat-tree", "lan", "line", "star"]
    n: Annotated[int, Field(ge=1)] | None = None
    k: Annotated[int, Field(ge=2)] | None = None
    spines: Annotated[int, Field(ge=1)] | None = None
    leaves: Annotated[int, Field(ge=1)] | None = None
    hosts: Annotated[int, Field(ge=1)] | None = None
    ipv6: bool = False
    rate: Rate | None = None
    delay: Duration = 0
    loss: Percentage = 0.0
    queue: Annotated[int, Field(ge=0, le=MAX_WIRE_QUEUE)] = 1000

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes that are given."""
        given = ("n", "k", "spines", "leaves", "hosts")
        return {key: value for key in given if (value := getattr(self, key)) is not None}

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        for key in self.sizes:
            if key not in SIZES[self.type]:
                hint = f"it has {listed(SIZES[self.type])}"
                raise Wrong(f"a topology of type {self.type} has no key '{key}'", hint, key=key)
        try:
            plan_topology(self.type, self.sizes)
        except InputError as error:
            raise Wrong(error.problem, error.hint, key=next(iter(self.sizes), "type")) from None
        return self


class ObjectBlock(Block):
    """Programs and maps of one host: a compiled object (``file``), or one program in assembly (``type`` and ``asm``).

    A file is looked up in the scenario's folder; ``bpf/...`` also among the objects that ship. ``rodata`` sets
    constants before the load. A program of a file is named OBJECT/PROGRAM, or OBJECT when there is just one.
    """

    host: str
    file: str | None = None
    asm: str | None = None
    type: str | None = None
    rodata: dict[str, Any] = {}
    pin: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "ObjectBlock":
        if (self.file is None) == (self.asm is None):
            raise Wrong("an object has either 'file' or 'asm'" + (", not both" if self.file else ""))
        if self.asm is not None and self.type is None:
            raise Wrong("an object with 'asm' needs the program's 'type'", "type: xdp")
        if self.file is not None and self.type is not None:
            raise Wrong("'type' belongs to 'asm'; a file's sections name the types of its programs", key="type")
        if self.asm is not None and self.rodata:
            raise Wrong("'rodata' belongs to a file", key="rodata")
        return self


class SocketBlock(Block):
    """A UDP socket that a host opens at the start, ``udp: ADDRESS:PORT``; what arrives is kept for ``expect``.

    It belongs to the control group ``cgroup``, a path such as ``/web``. Sockets with ``reuseport`` may share an address
    and port.
    """

    host: str
    udp: PortAddress
    cgroup: str = "/"
    reuseport: bool = False


class TaskBlock(Block):
    """A task that makes the system calls of ``steps``, one after the other, and exits.

    A step is ``{openat: [/etc/passwd, O_RDONLY], as: fd}``: a call with its arguments; ``$fd`` is then what it
    returned. ``{call: [PATH:FUNCTION, 7], returns: 1, takes: 5us}`` calls a function of one of the host's ``binaries``,
    ``{usdt: [PATH:PROVIDER:NAME, 7]}`` comes by a static tracepoint. ``{fork: [STEPS], id: child}`` makes a task with
    steps of its own, ``{bpf: [MAP_CREATE, {map_type: hash, key_size: 4}]}`` calls bpf(2) with the fields of its union.
    ``id`` tells tasks of one name apart,
    ``cgroup`` is the path of its control group, ``stack`` where it is in user space, then who called that.
    """

    id: Name | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)]
    uid: Annotated[int, Field(ge=0, lt=MAX_ID)] = 0
    gid: Annotated[int, Field(ge=0, lt=MAX_ID)] | None = None
    cpu: Annotated[int, Field(ge=0, lt=MAX_CPUS)] | None = None
    cgroup: Annotated[str, Field(pattern="^/")] | None = None
    stack: list[Annotated[int, Field(ge=0, lt=1 << 47)]] = []
    steps: list[Annotated[Any, WithJsonSchema({"type": ["object", "string"]})]]

    @property
    def key(self) -> str:
        """What expectations and reports call it."""
        return self.id or self.name


class CallBlock(Block):
    """A call of a function of the kernel by its name: what is attached to it runs, whether anything else calls it or
    not. ``args`` are numbers and texts, in order or by the names of the parameters; what is left out is 0.
    """

    function: str
    args: dict[str, int | str] | list[int | str] = []


class AttachBlock(Block):
    """A program on a hook: ``hook: xdp`` with ``device`` and ``mode`` (native where the driver can, unless told);
    ``tcx_ingress`` and ``tcx_egress`` with ``device``, ``before`` or ``after`` another link; ``tc_ingress`` and
    ``tc_egress`` (filters of a clsact qdisc, in direct-action mode) with ``device``, ``pref``, ``handle`` and
    ``protocol``; ``netkit`` (for the end that the program was loaded for), ``netkit_primary`` and ``netkit_peer`` with
    ``device``, the primary one of a pair, ``before`` or ``after``; ``cgroup`` with ``cgroup``, a path, for what the
    program was loaded for; ``sock_ops`` with ``cgroup``; ``sk_msg`` and ``sk_skb`` with ``map``, a sockmap or sockhash;
    ``fentry``, ``fexit``, ``fmod_ret``, ``lsm``, ``kprobe``, ``kretprobe``, ``kprobe_multi``, ``raw_tp`` and ``tp_btf``
    with ``target``, the name of a function, security hook or tracepoint, and ``cookie``; ``freplace`` with ``target``
    OBJECT/PROGRAM/FUNCTION (or OBJECT/PROGRAM), a function of another object's program, which ``fentry`` and ``fexit``
    may have too; ``flow_dissector`` and ``sk_lookup``, of the host's network namespace; ``lwt_in``, ``lwt_out`` and
    ``lwt_xmit`` with ``target``, the prefix of a route; ``netfilter`` with ``target`` (PRE_ROUTING, LOCAL_IN, FORWARD,
    LOCAL_OUT, POST_ROUTING) and ``priority``; ``sk_reuseport`` with ``socket``, one of the group, and
    ``socket_filter``; ``uprobe``, ``uretprobe`` and ``uprobe_multi`` with ``target`` PATH:FUNCTION (+OFFSET), ``usdt``
    with PATH:PROVIDER:NAME; ``perf_event`` with ``event`` (``cpu-clock`` or ``task-clock``), ``period`` or
    ``frequency``, and ``cpu`` or ``task``; ``iter`` with ``map`` where it shows the elements of one; ``struct_ops``,
    where ``program`` is OBJECT/TABLE.

    ``id`` names the link. In an event, ``replace`` updates that link to the new program without a gap; it then goes by
    the new ``id``, and each id counts its own runs. ``old`` names the program that has to be there (BPF_F_REPLACE).
    ``refused`` is the errno with which the kernel must refuse; nothing is attached then.
    """

    id: Name | None = None
    program: str
    hook: str
    host: str | None = None
    device: str | None = None
    mode: Literal["auto", "native", "generic", "offload"] = "auto"
    replace: str | None = None
    old: str | None = None
    refused: str | None = None
    before: str | None = None
    after: str | None = None
    cgroup: str | None = None
    pref: Annotated[int, Field(ge=0, le=0xFFFF)] = 0
    handle: Annotated[int, Field(ge=0, le=0x7FFF_FFFF)] = 0
    protocol: str = "all"
    # of hooks at functions and tracepoints
    target: Any = None
    cookie: Any = None
    socket: str | None = None
    map: str | None = None
    # of netfilter, whose hook is ``target``
    priority: Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)] = 0
    # of samples
    event: Literal["cpu-clock", "task-clock"] | None = None
    period: Duration | None = None
    frequency: Annotated[int, Field(ge=1, le=100_000)] | None = None
    cpu: Annotated[int, Field(ge=0, lt=MAX_CPUS)] | None = None
    task: str | None = None


class EventBlock(Block):
    """Something that happens at ``at``, exactly one of:

    ``send`` a packet string from ``host`` and ``device``, ``count`` times, one ``every`` so often; ``replay`` a pcap or
    pcapng, ``speed`` times as fast; ``attach``; ``detach`` a link by its id; ``read`` that of an
    iterator, as cat does; ``map``: set entries, null removes one;
    ``socket``: what a socket does, ``connect`` and then send ``data`` there, or send it ``to`` an address, ``count``
    times, one ``every`` so often; what is refused counts under ``refused`` of the socket; ``task``: a task of ``host``;
    ``call`` a function of its kernel.

    ``flow`` of ``host`` ``to`` an address (or HOST:PORT) is of a ``type``: ``tcp``, a connection that sends ``bytes``
    (without end if left out) as fast as it can, where they are read at once; ``udp``, datagrams of ``size`` bytes at a
    ``rate`` of payload, or one ``every`` so often, ``count`` of them or for a ``duration``; ``requests``, ``count`` of
    them over TCP by ``clients``, each of ``request`` bytes and answered with ``response`` bytes, with time to ``think``
    between, ``per_connection`` on one connection; ``syn_flood`` out of ``device`` from ``sources``. Times and sizes may
    be distributions: {exponential: 1ms}, {uniform: [1, 9]}, {pareto: [LOWEST, SHAPE]}, {normal: [MEAN, DEVIATION]},
    {lognormal: [MEDIAN, SIGMA]}, {choice: [..]}.
    """

    at: Duration
    host: str | None = None
    device: str | None = None
    send: str | None = None
    count: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = None
    every: Interval | None = None
    replay: str | None = None
    speed: Annotated[int | float, Field(gt=0, le=1_000_000)] = 1.0
    attach: AttachBlock | None = None
    detach: str | None = None
    read: str | None = None
    map: dict[str, Any] | None = None
    socket: str | None = None
    connect: PortAddress | None = None
    to: PortTarget | None = None
    data: str | None = None
    flow: Name | None = None
    type: Literal["tcp", "udp", "requests", "syn_flood"] | None = None
    rate: Rate | None = None
    size: Size | None = None
    duration: Duration | None = None
    request: Size | None = None
    response: Size | None = None
    think: Interval | None = None
    clients: Annotated[int, Field(ge=1, le=1000)] | None = None
    per_connection: Annotated[int, Field(ge=1)] | None = None
    sources: SourceNetwork | None = None
    bytes: Annotated[int, Field(ge=1)] | None = None
    congestion: Name | None = None
    task: TaskBlock | None = None
    call: CallBlock | None = None

    @property
    def kind(self) -> str:
        """The one key that says what happens."""
        return next(kind for kind in EVENT_KINDS if kind in self.model_fields_set)

    @property
    def flow_type(self) -> str:
        """What kind of flow a flow is."""
        return self.type or "tcp"

    @property
    def every_ns(self) -> int:
        """The time between things that happen evenly, 0 otherwise."""
        return round(self.every.numbers[0]) if self.every is not None and self.every.is_constant else 0

    @model_validator(mode="after")
    def _one_kind(self) -> "EventBlock":
        _check_kind("an event", EVENT_KINDS, self.model_fields_set - {"at"}, self.__dict__)
        if self.send is not None or self.replay is not None:
            _require(self.model_fields_set, "host", "device", of=f"'{self.kind}'")
        for key in ("task", "call"):
            if getattr(self, key) is not None:
                _require(self.model_fields_set, "host", of=f"'{key}'")
        if self.flow is not None:
            _require(self.model_fields_set, "host", "to", of="'flow'")
            refuse_flow(self.model_fields_set, self.flow_type)
        if self.socket is not None and (self.connect is None) == (self.to is None):
            raise Wrong("a socket does one of 'connect' and 'to'", key="socket")
        return self


class PacketsBlock(Block):
    """Which frames to count: as a capture on that host and device shows them.

    So a frame that XDP dropped or sent elsewhere is not ``in``, unless ``verdict`` asks for just those. ``match``:
    layer -> field -> value in scapy's names; a list is one of its values, as are the addresses of a network.
    """

    host: str
    device: str
    direction: Literal["in", "out"]
    match: dict[str, dict[str, Any] | None] | None = None
    verdict: str | None = None


class ExpectBlock(Block):
    """Something that must be so at the end. Counts are a number or [lowest, highest]; only what is named is compared.

    ``link``: ``runs``, ``verdicts``. ``map``: ``key`` and ``equals`` (null: no entry), ``equals`` for all entries,
    ``contains`` for some, ``entries``; a single value of a per-CPU map is the sum over the CPUs. ``packets``:
    ``count``. ``socket``: ``received``, ``contains``,
    ``refused``. ``flow``: ``received`` bytes, all of them right and in order, segments sent again (``retransmits``),
    whether both ends have closed (``ended``); of UDP ``sent``, ``datagrams``, ``lost``, ``reordered``, of requests
    ``responses`` and ``failed`` connections. ``device`` HOST/INTERFACE: ``counters`` as in ip -s link.
    ``snmp`` of HOST or HOST/NAMESPACE: ``counters`` by the names of nstat. ``drops`` at HOST or HOST/INTERFACE: frames
    by ``reasons``, or all of them (``total``). ``neighbour`` of HOST/INTERFACE: the ``state`` of an ``address``, as in
    ip neigh, or none.
    ``trace_pipe`` and ``audit``, the log of loaded and unloaded programs, of a host: ``contains``, ``count``. ``read``,
    the link of an iterator: lines that were read, by ``contains`` and ``count``. ``load`` OBJECT or OBJECT/PROGRAM:
    ``verdict`` accept or reject, ``errno``, ``message`` (part of the verifier's log). ``records`` of a ring buffer:
    ``count``, ``first``, ``last``, ``contains``, with ``type``, the C struct that they are. ``task``, by its name or
    id: ``step``, the number (from 0) or the ``as`` of one, with ``errno`` or ``result``; ``ended``, whether all of its
    steps are done.
    """

    link: str | None = None
    runs: Count | None = None
    verdicts: dict[str, Count] | None = None
    map: str | None = None
    key: Any = None
    equals: Any = None
    contains: Any = None
    entries: Count | None = None
    packets: PacketsBlock | None = None
    count: Count | None = None
    socket: str | None = None
    received: Count | None = None
    refused: dict[str, Count] | None = None
    flow: str | None = None
    retransmits: Count | None = None
    sent: Count | None = None
    datagrams: Count | None = None
    lost: Count | None = None
    reordered: Count | None = None
    refused_calls: Count | None = None
    responses: Count | None = None
    failed: Count | None = None
    device: str | None = None
    counters: dict[str, Count] | None = None
    snmp: str | None = None
    drops: str | None = None
    reasons: dict[str, Count] | None = None
    total: Count | None = None
    neighbour: str | None = None
    address: str | None = None
    state: str | None = None
    payloads: list[str] | None = None
    trace_pipe: str | None = None
    audit: str | None = None
    read: str | None = None
    load: str | None = None
    verdict: Literal["accept", "reject"] | None = None
    errno: str | None = None
    message: str | None = None
    records: str | None = None
    type: str | None = None
    first: Any = None
    last: Any = None
    task: Any = None
    step: int | str | None = None
    result: ReturnValue | None = None
    ended: bool | None = None

    @property
    def kind(self) -> str:
        """The one key that says what is looked at."""
        return next(kind for kind in EXPECT_KINDS if kind in self.model_fields_set)

    @model_validator(mode="after")
    def _one_kind(self) -> "ExpectBlock":
        _check_kind("an expectation", EXPECT_KINDS, self.model_fields_set, self.__dict__)
        companions = EXPECT_KINDS[self.kind]
        said = [key for key in companions if key not in ("key", "type", "step", "address")]
        if not any(key in self.model_fields_set for key in said):
            raise Wrong(f"'{self.kind}' expects nothing", f"one of {listed(said)}")
        return self


class SweepBlock(Block):
    """What ``ebpfsim sweep`` varies and reports; a single run does not look at it."""

    vary: dict[str, list[Any]]
    report: dict[str, str] = {}


class ScenarioModel(Block):
    """A whole scenario file.

    ``routes: auto`` gives every host static routes to all networks, on shortest paths; ``multipath`` takes all shortest
    paths. A ``topology`` has ``auto`` unless told otherwise.
    """

    name: str | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 1
    until: Duration | None = None
    kernel: KernelBlock = KernelBlock()
    topology: Annotated[
        TopologyBlock | None, BeforeValidator(_as_topology, json_schema_input_type=str | TopologyBlock)
    ] = None
    hosts: Annotated[dict[Name, HostBlock], BeforeValidator(_without_free_keys)] = {}
    links: list[LinkBlock] = []
    routes: Literal["auto", "multipath", "none"] | None = None
    objects: Annotated[dict[Name, ObjectBlock], BeforeValidator(_without_free_keys)] = {}
    sockets: Annotated[dict[Name, SocketBlock], BeforeValidator(_without_free_keys)] = {}
    maps: dict[str, Any] = {}
    attach: list[AttachBlock] = []
    events: list[EventBlock] = []
    expect: list[ExpectBlock] = []
    sweep: SweepBlock | None = None


def _check_kind(what: str, kinds: Mapping[str, tuple[str, ...]], given: set[str], values: Mapping[str, Any]) -> None:
    found = [kind for kind in kinds if kind in given]
    if not found:
        raise Wrong(f"{what} has none of the keys {listed(kinds)}")
    if len(found) > 1:
        raise Wrong(f"{what} is one thing, has '{found[0]}' and '{found[1]}'", "write two", key=found[1])
    kind = found[0]
    if values[kind] is None:
        raise Wrong(f"key '{kind}' has no value", key=kind)
    for key in sorted(given - {kind, *kinds[kind]}):
        allowed = listed(kinds[kind], "no others")
        raise Wrong(f"key '{key}' does not belong to '{kind}'", f"beside '{kind}': {allowed}", key=key)


def _require(given: set[str], *keys: str, of: str) -> None:
    for key in keys:
        if key not in given:
            raise Wrong(f"{of} needs the key '{key}'")
