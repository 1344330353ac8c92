# ruff: noqa: E501
"""Wrong scenarios: each gives one clear error at its place. The mark ``¦`` stands before the place that is expected."""

import shutil
from pathlib import Path

import pytest

from ebpfsim.errors import NotModelled, ScenarioError
from ebpfsim.scenario.check import check_scenario
from ebpfsim.scenario.load import load_scenario, parse_scenario

ROOT = Path(__file__).resolve().parents[4]
OBJECTS = ROOT / "scenarios" / "bpf"

RIGHT = """\
name: firewall
seed: 7
until: 50ms
kernel: {cpus: 2, mitigations: auto, costs: skx3, sysctl: {net.ipv4.ip_forward: 1}}
hosts:
  client: {interfaces: {eth0: {address: 10.0.0.1/24, mac: "02:00:00:00:00:01"}}}
  server:
    cpus: 4
    interfaces: {eth0: {address: [10.0.0.2/24], queues: 2, mtu: 1500}}
    routes: [{to: default, via: 10.0.0.1}]
links:
  - {ends: [client/eth0, server/eth0], rate: 10Gbit, delay: 20us, loss: 0.1%, queue: 1000}
objects:
  fw: {host: server, file: firewall.bpf.o}
  chain: {host: server, file: parser_chain.bpf.o, rodata: {open_udp_port: 54}}
  nop: {host: server, type: xdp, asm: "r0 = 2; exit"}
sockets:
  dns: {host: server, udp: 0.0.0.0:53}
maps:
  fw/blocked: {10.0.0.66: 1}
attach:
  - {id: guard, program: fw/firewall, hook: xdp, device: eth0, mode: native}
events:
  - {at: 1ms, host: client, send: "Ether()/IP(dst='10.0.0.2')/UDP(dport=53)/'x'", device: eth0, count: 9, every: 10us}
  - {at: 4ms, attach: {id: late, program: nop, hook: xdp, device: eth0, replace: guard}}
  - {at: 5ms, detach: late}
  - {at: 6ms, map: {fw/blocked: {10.0.0.1: 1}}}
expect:
  - {link: guard, runs: 9, verdicts: {XDP_DROP: [1, 9]}}
  - {map: fw/stats, key: 1, equals: {packets: 9}}
  - {packets: {host: server, device: eth0, direction: in, match: {UDP: {dport: 53}}}, count: 0}
  - {socket: dns, received: 0}
  - {device: server/eth0, counters: {rx_packets: 9}}
  - {trace_pipe: server, contains: "blocked", count: 0}
  - {load: fw/firewall, verdict: accept}
"""

# what is replaced, by what (¦ before the place of the error), and a part of the message
WRONG = [
    # keys
    ("attach:\n", "¦atach:\n", "unknown key 'atach'; did you mean 'attach'?"),
    ("until: 50ms", "¦utnil: 50ms", "unknown key 'utnil'; did you mean 'until'?"),
    ("queues: 2", "¦queue: 2", "unknown key 'queue'; did you mean 'queues'?"),
    ("hook: xdp, device: eth0, mode: native", "hook: xdp, device: eth0, ¦mod: native", "did you mean 'mode'?"),
    ("{id: guard, program: fw/firewall, hook", "¦{id: guard, hook", "missing key 'program' in 'attach[0]'"),
    ("  fw: {host: server, ", "  fw: ¦{", "missing key 'host' in 'fw'"),
    ("seed: 7\n", "seed: 7\n¦seed: 8\n", "key 'seed' is given twice; first in line 2"),
    ("{10.0.0.66: 1}", "{10.0.0.66: 1, ¦10.0.0.66: 2}", "key '10.0.0.66' is given twice"),
    ("cpus: 4", "cpus: 4\n    ¦cpus: 2", "key 'cpus' is given twice; first in line 8"),
    # types
    ("seed: 7", "seed: ¦seven", "'seed': expected a whole number, have 'seven'"),
    ("seed: 7", "seed: ¦-1", "'seed': expected 0 or more, have -1"),
    ("cpus: 4", "cpus: ¦0", "'cpus': expected 1 or more, have 0"),
    ("cpus: 4", "cpus: ¦4.5", "'cpus': expected a whole number, have 4.5"),
    ("cpus: 4", "cpus: ¦\"4\"", "'cpus': expected a whole number, have '4'"),
    ("cpus: 4", "cpus: ¦true", "'cpus': expected a whole number, have true"),
    ("mitigations: auto", "mitigations: ¦on", "'mitigations': expected 'auto' or 'off', have 'on'"),
    ("links:\n  - {", "links:\n  ¦{", "'links': expected a list, have a mapping"),
    ("name: firewall", "name: ¦12", "'name': expected text, have 12"),
    ("ends: [client/eth0, server/eth0]", "ends: ¦[client/eth0]", "'ends' has 1 items, expected 2"),
    ("mtu: 1500", "mtu: ¦12", "'mtu': expected 68 or more, have 12"),
    # units
    ("until: 50ms", "until: ¦50", "duration 50 has no unit"),
    ("until: 50ms", "until: ¦50msec", "duration '50msec' is not understood"),
    ("at: 1ms", "at: ¦-1ms", "duration '-1ms' is negative"),
    ("at: 1ms", "at: ¦0.5ns", "duration '0.5ns' is finer than a nanosecond"),
    ("at: 1ms", "at: ¦99999999999999s", "longer than"),
    ("delay: 20us", "delay: ¦20 parsecs", "duration '20 parsecs' is not understood"),
    ("rate: 10Gbit", "rate: ¦10GB", "rate '10GB' is not understood"),
    ("rate: 10Gbit", "rate: ¦1000000", "rate 1000000 has no unit"),
    ("rate: 10Gbit", "rate: ¦0Gbit", "rate '0Gbit' is not understood"),
    ("loss: 0.1%", "loss: ¦0.1", "percentage 0.1 has no '%'"),
    ("loss: 0.1%", "loss: ¦101%", "percentage '101%' is above 100%"),
    ("runs: 9", "runs: ¦-9", "count -9 is negative"),
    ("[1, 9]", "¦[9, 1]", "range [9, 1] is empty"),
    # addresses and names
    ("10.0.0.1/24", "¦10.0.0.300/24", "address '10.0.0.300/24' is not understood"),
    ("10.0.0.1/24", "¦10.0.0.1", "address '10.0.0.1' has no prefix length"),
    ("10.0.0.1/24", "¦224.0.0.1/24", "address '224.0.0.1/24' cannot belong to an interface"),
    ('mac: "02:00:00:00:00:01"', "mac: ¦02:00:00:00:00", "MAC address '02:00:00:00:00' is not understood"),
    ('mac: "02:00:00:00:00:01"', "mac: ¦01:00:00:00:00:01", "is a group address"),
    ("{eth0: {address: [", "{¦a-very-long-name0: {address: [", "has 17 characters, at most 15 are allowed"),
    ("{eth0: {address: [", "{¦lo: {}, eth0: {address: [", "interface 'lo' is there from the start"),
    ("  dns: {", "  ¦'a/b': {", "name 'a/b' is not allowed"),
    ("0.0.0.0:53}", "¦0.0.0.0:70000}", "port '70000' is not a number from 1 to 65535"),
    ("via: 10.0.0.1", "via: ¦10.0.0.1/24", "gateway '10.0.0.1/24' is not an address"),
    ("via: 10.0.0.1", "¦via: ~", "key 'via' has no value"),
    ("runs: 9", "¦runs: ~", "key 'runs' has no value"),
    ("{at: 1ms, host: client", "{at: 1ms, ¦host: ~", "key 'host' has no value"),
    ("detach: late", "¦detach: ~", "key 'detach' has no value"),
    ("cpus: 4", "¦cpus:", "key 'cpus' has no value"),
    ("via: 10.0.0.1", "¦gateway: 10.0.0.1", "unknown key 'gateway'"),
    # names that lead nowhere
    ("host: client", "host: ¦clint", "unknown host 'clint'; did you mean 'client'?"),
    ("  fw: {host: server", "  fw: {host: ¦serber", "unknown host 'serber'; did you mean 'server'?"),
    ("[client/eth0, server/eth0]", "[client/eth0, ¦server/eth1]", "unknown interface of 'server': 'eth1'"),
    ("[client/eth0, server/eth0]", "[¦client, server/eth0]", "link end 'client' is not HOST/INTERFACE"),
    ("[client/eth0, server/eth0]", "[client/eth0, ¦client/eth0]", "interface 'client/eth0' has a link already"),
    (
        "  dns: {host: server, udp: 0.0.0.0:53}",
        '  dns: {host: server, udp: 0.0.0.0:53}\n  two: {host: server, udp: ¦"10.0.0.2:53"}',
        "port 53 of 'server' is that of socket 'dns' already",
    ),
    ("program: fw/firewall", "program: ¦fw/firewal", "unknown program of 'fw': 'firewal'; did you mean 'firewall'?"),
    ("program: fw/firewall", "program: ¦wf/firewall", "unknown object 'wf'"),
    ("program: fw/firewall", "program: ¦chain", "object 'chain' has 5 programs, expected the name of one"),
    ("hook: xdp, device: eth0, mode", "hook: ¦xpd, device: eth0, mode", "unknown hook 'xpd'; did you mean 'xdp'?"),
    ("hook: xdp, device: eth0, mode", "hook: xdp, device: ¦eth1, mode", "unknown device of 'server': 'eth1'"),
    ("  - {id: guard, program: fw/firewall, hook: xdp, device: eth0, ", "  - ¦{id: guard, program: fw/firewall, hook: xdp, ", "hook 'xdp' needs the key 'device'"),
    ("mode: native", "mode: ¦natve", "'mode': expected 'auto', 'native', 'generic' or 'offload', have 'natve'; did you mean 'native'?"),
    ("detach: late}", "detach: late}\n  - {at: 7ms, attach: {id: ¦late, program: nop, hook: xdp, device: eth0}}", "link id 'late' is given twice"),
    ("replace: guard", "replace: ¦gard", "unknown link 'gard'; did you mean 'guard'?"),
    ("detach: late", "detach: ¦lat", "unknown link 'lat'; did you mean 'late'?"),
    ("maps:\n  fw/blocked", "maps:\n  ¦fw/bloked", "unknown map of 'fw': 'bloked'; did you mean 'blocked'?"),
    ("map: fw/stats", "map: ¦stats", "map 'stats' is not OBJECT/MAP"),
    ("link: guard", "link: ¦gaurd", "unknown link 'gaurd'; did you mean 'guard'?"),
    ("XDP_DROP: [", "¦XDP_DORP: [", "unknown verdict 'XDP_DORP'; did you mean 'XDP_DROP'?"),
    ("socket: dns", "socket: ¦dsn", "unknown socket 'dsn'; did you mean 'dns'?"),
    ("rx_packets: 9", "¦rx_pakets: 9", "unknown counter 'rx_pakets'; did you mean 'rx_packets'?"),
    ("trace_pipe: server", "trace_pipe: ¦sever", "unknown host 'sever'; did you mean 'server'?"),
    ("load: fw/firewall", "load: ¦fw/wall", "unknown program of 'fw': 'wall'"),
    ("costs: skx3", "costs: ¦skx4", "unknown cost profile 'skx4'; did you mean 'skx3'?"),
    ("match: {UDP: {dport", "match: {UDP: {¦dprot", "UDP has no field 'dprot'; did you mean 'dport'?"),
    ("match: {UDP: {", "match: {¦UPD: {", "unknown layer 'UPD'; did you mean 'UDP'?"),
    ("direction: in", "direction: ¦inwards", "'direction': expected 'in' or 'out', have 'inwards'"),
    ("verdict: accept", "verdict: ¦accepted", "'verdict': expected 'accept' or 'reject'"),
    # one thing each
    ("{at: 5ms, detach: late}", "¦{at: 5ms, host: client, replay: x.pcap}", "'replay' needs the key 'device'"),
    ("{at: 5ms, detach: late}", "{at: 5ms, host: client, device: eth0, replay: ¦x.pcap}", "capture 'x.pcap' does not exist"),
    ("{at: 5ms, detach: late}", "¦{at: 5ms}", "an event has none of the keys"),
    ("{at: 5ms, detach: late}", "{at: 5ms, detach: late, ¦map: {}}", "an event is one thing, has 'detach' and 'map'"),
    ("{at: 5ms, detach: late}", "{at: 5ms, detach: late, ¦count: 2}", "key 'count' does not belong to 'detach'"),
    ("{at: 1ms, host: client, send: ", "¦{at: 1ms, host: client, x-send: ", "an event has none of the keys"),
    ("{link: guard, runs: 9, verdicts: {XDP_DROP: [1, 9]}", "¦{link: guard", "'link' expects nothing"),
    ("verdicts: {XDP_DROP: [1, 9]}", "¦received: 9", "key 'received' does not belong to 'link'"),
    # map contents
    ("{10.0.0.66: 1}", "{10.0.0.66: ¦none of your business}", "is neither a number nor an address"),
    ("{10.0.0.66: 1}", "{¦fd00::1: 1}", "is neither a number nor an address of 4 bytes"),
    ("{10.0.0.66: 1}", "¦[10.0.0.66]", "expected a mapping from keys to values, have a list of 1"),
    ("{packets: 9}", "¦{pakets: 9}", "struct counter has no member 'pakets'"),
    ("{open_udp_port: 54}", "{¦open_upd_port: 54}", "did you mean 'open_udp_port'?"),
    # programs
    ("file: firewall.bpf.o", "file: ¦firewal.bpf.o", "file 'firewal.bpf.o' does not exist; did you mean 'firewall.bpf.o'?"),
    ("file: firewall.bpf.o", "file: ¦/etc/passwd", "file '/etc/passwd' is an absolute path"),
    ("file: firewall.bpf.o", "file: ¦../secret.o", "file '../secret.o' leads out of the scenario's folder"),
    ("file: firewall.bpf.o", "file: ¦sub/../../secret.o", "leads out of the scenario's folder"),
    ("file: firewall.bpf.o", "file: ¦link.o", "file 'link.o' is a link out of the scenario's folder"),
    ("file: firewall.bpf.o", "file: ¦folder", "file 'folder' is a folder, expected a file"),
    ("file: firewall.bpf.o", "file: ¦photo.jpg", "photo.jpg: a JPEG image, expected an ELF object"),
    ("file: firewall.bpf.o", "file: ¦cut.o", "cut.o: file is cut off"),
    ("file: firewall.bpf.o", "file: ¦empty.o", "empty.o: "),
    ('asm: "r0 = 2; exit"', 'asm: "r0 = 2; ¦exot"', "unknown word 'exot'; did you mean 'exit'?"),
    ("type: xdp, asm", "type: ¦xpd, asm", "unknown program type 'xpd'; did you mean 'xdp'?"),
    ("{host: server, type: xdp, asm", "¦{host: server, asm", "an object with 'asm' needs the program's 'type'"),
    ("{host: server, file: firewall.bpf.o", "¦{host: server, file: firewall.bpf.o, asm: exit", "an object has either 'file' or 'asm', not both"),
    # packet strings
    ("Ether()/IP(", "¦__import__('os')/IP(", "unknown layer '__import__'"),
    ("Ether()/IP(", "¦Ether().copy()/IP(", "attribute access is not allowed in a packet string"),
    ("/'x'\"", "/¦[x for x in (1,)]\"", "a comprehension is not allowed in a packet string"),
    ("/'x'\"", "/(¦lambda: 1)\"", "a lambda is not allowed in a packet string"),
    ("/'x'\"", "/(¦'x'*99999999999)\"", "repetition makes 99999999999 bytes, at most 65535 are allowed"),
    ("IP(dst=", "¦IPP(dst=", "unknown layer 'IPP'; did you mean 'IP'?"),
    ("dport=53)/", "¦dprt=53)/", "UDP has no field 'dprt'; did you mean 'dport'?"),
    ("dport=53)/", "dport=¦99999)/", "field 'dport' of UDP: 99999 does not fit in 16 bits"),
    ("dst='10.0.0.2'", "dst=¦'example.com'", "'example.com' is not an IPv4 address"),
    ("/'x'\"", "¦+'x'\"", "operator '+' is not allowed"),
    ("Ether()/IP(", "Ether()/IP((¦", "packet string is not an expression"),
]  # fmt: skip

# text of a whole file, ¦ before the place
UNREADABLE = [
    ("¦", "scenario is empty"),
    ("¦# nothing\n", "scenario is empty"),
    ("a: 1\n¦---\nb: 2\n", "a second document starts here"),
    ("¦[1, 2]\n", "expected a mapping with hosts, links and so on, have a list of 2"),
    ("¦just text\n", "expected a mapping with hosts, links and so on, have 'just text'"),
    ("name: x\n¦\tseed: 1\n", "a tab indents this line"),
    ('name: "x\nseed: 1¦', "quoted text is not closed before the end of the file, opened at 1:7"),
    ("links: [1, 2\nseed¦: 3\n", "expected ',' or ']' in the list, opened at 1:8"),
    ("name: a¦: b\n", "':' does not start a mapping here"),
    ("name: ¦@x\n", "a value cannot start with '@'"),
    ("name: ¦!!python/object/apply:os.system [ls]\n", "is not allowed"),
    ("name: ¦*nowhere\n", "alias '*nowhere' has no anchor '&nowhere' before it"),
    ("name: ¦\x07\n", "control character U+0007"),
    ("? ¦[a]\n: b\n", "a key must be text or a whole number"),
    ("name: x\n seed¦: 1\n", "':' does not start a mapping here"),
    ("seed: ¦" + "9" * 500 + "\n", "number of 500 digits is too large"),
    ("name: " + "[" * 39 + "¦[" + "]" * 40, "nested deeper than 40 levels"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the objects, and files that are none."""
    root = tmp_path_factory.mktemp("outside")
    (root / "secret.o").write_bytes((OBJECTS / "firewall.bpf.o").read_bytes())
    folder = root / "scenario"
    (folder / "folder").mkdir(parents=True)
    for name in ("firewall.bpf.o", "parser_chain.bpf.o"):
        shutil.copy(OBJECTS / name, folder / name)
    (folder / "link.o").symlink_to(root / "secret.o")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(64))
    (folder / "cut.o").write_bytes((OBJECTS / "firewall.bpf.o").read_bytes()[:900])
    (folder / "empty.o").write_bytes(b"")
    return folder


def errors_of(text: str, folder: Path) -> list[ScenarioError]:
    try:
        check_scenario(parse_scenario(text.encode(), "x.yaml", folder))
    except ScenarioError as error:
        others = [other for other in error.others if isinstance(other, ScenarioError)]
        return [error, *others]
    return []


def place(text: str) -> tuple[str, str]:
    """The text without its mark, and where the mark was."""
    before, mark, after = text.partition("¦")
    assert mark
    line, col = before.count("\n") + 1, len(before) - before.rfind("\n")
    return before + after, f"x.yaml:{line}:{col}"


def test_right_scenario_has_no_errors(folder: Path) -> None:
    assert [str(error) for error in errors_of(RIGHT, folder)] == []


@pytest.mark.parametrize(("old", "new", "message"), WRONG, ids=[row[2][:60] for row in WRONG])
def test_wrong_scenario_gives_one_error_at_its_place(old: str, new: str, message: str, folder: Path) -> None:
    assert old in RIGHT
    marked = RIGHT.replace(old, new, 1)
    text, where = place(marked)
    found = errors_of(text, folder)
    assert len(found) == 1, [str(error) for error in found]
    assert message in found[0].problem
    assert found[0].where == where
    # the source line and a caret below the place
    line, caret = found[0].source.splitlines()
    assert line.strip() in text
    assert caret.strip("^ ") == ""


def test_there_are_enough_wrong_scenarios() -> None:
    assert len(WRONG) + len(UNREADABLE) >= 60


@pytest.mark.parametrize(("marked", "message"), UNREADABLE, ids=[row[1] for row in UNREADABLE])
def test_unreadable_file_gives_one_error_at_its_place(marked: str, message: str, folder: Path) -> None:
    text, where = place(marked)
    found = errors_of(text, folder)
    assert [(error.where, message in error.problem) for error in found] == [(where, True)], [str(e) for e in found]


def test_all_errors_come_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = RIGHT.replace("host: client", "host: clint").replace("link: guard", "link: gard").replace("fw/stats", "f/s")
    assert [error.problem.partition(";")[0] for error in errors_of(text, folder)] == [
        "unknown host 'clint'",
        "unknown link 'gard'",
        "unknown object 'f'",
    ]


def test_schema_errors_come_at_once(folder: Path) -> None:
    text = RIGHT.replace("until: 50ms", "until: 50").replace("cpus: 4", "cpus: four").replace("loss: 0.1%", "lost: 1%")
    lines = [error.where.split(":")[1] for error in errors_of(text, folder)]
    assert lines == ["3", "8", "12"]


def test_keys_that_begin_with_x_are_free(folder: Path) -> None:
    text = RIGHT.replace("cpus: 4", "x-note: {any: thing}\n    cpus: 4").replace(
        "hosts:\n", "x-y: &a 1\nhosts:\n  x-z: *a\n"
    )
    assert errors_of(text, folder) == []


@pytest.mark.parametrize(
    ("old", "new", "feature"),
    [
        (
            "hook: xdp, device: eth0, mode: native",
            "hook: ¦lwt_seg6local, target: tcp_v4_connect",
            "hook 'lwt_seg6local'",
        ),
        ("mode: native", "mode: ¦offload", "XDP offload to hardware"),
        ("net.ipv4.ip_forward: 1", "¦net.unix.max_dgram_qlen: 1", "sysctl net.unix.max_dgram_qlen"),
        (
            "net.ipv4.ip_forward: 1",
            "¦net.ipv4.ip_forwrd: 1",
            "sysctl net.ipv4.ip_forwrd; did you mean 'net.ipv4.ip_forward'?",
        ),
    ],
)
def test_what_linux_has_and_we_do_not_is_told_apart(old: str, new: str, feature: str, folder: Path) -> None:
    text, where = place(RIGHT.replace(old, new, 1))
    with pytest.raises(NotModelled) as caught:
        check_scenario(parse_scenario(text.encode(), "x.yaml", folder))
    assert caught.value.feature == feature
    assert caught.value.at == where


def test_errors_come_before_what_is_not_modelled(folder: Path) -> None:
    text = RIGHT.replace("mode: native", "mode: offload").replace("link: guard", "link: gard")
    assert [error.problem.partition(";")[0] for error in errors_of(text, folder)] == ["unknown link 'gard'"]


@pytest.mark.parametrize("name", ["no/such.yaml", "missing.yaml", "a\0b.yaml"])
def test_file_that_is_not_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScenarioError, match=r"no such file|not a path"):
        load_scenario(name)


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="is a folder, expected a scenario file"):
        load_scenario(tmp_path)


FLOWS = """\
hosts: {client: {interfaces: {eth0: {address: 10.0.0.1/24}}}}
events:
  - {at: 0, flow: f, host: client, to: "10.0.0.1:80"}
  - {at: 1s, flow: g, host: client, to: "10.0.0.1:81"}
expect: [{flow: f, received: 0}]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [("{flow: f", "{flow: ¦h", "unknown flow 'h'"), (", to: \"10.0.0.1:81\"", "", "'flow' needs the key 'to'"),
     ("flow: g", "flow: ¦f", "there are several flows 'f'"), (":81", ":80", "another flow goes there"),
     ("host: client, to: \"10.0.0.1:80\"", "host: ¦server, to: \"10.0.0.1:80\"", "unknown host 'server'")],
)  # fmt: skip
def test_flows_that_are_wrong(old: str, new: str, message: str, folder: Path) -> None:
    assert errors_of(FLOWS, folder) == []
    found = errors_of(FLOWS.replace(old, new.replace("¦", "")), folder)
    assert found
    assert message in found[0].problem


def test_a_port_may_be_used_once_for_each_address(folder: Path) -> None:
    two = 'sockets:\n  local: {host: server, udp: "127.0.0.1:53"}\n'
    text = RIGHT.replace("udp: 0.0.0.0:53", 'udp: "10.0.0.2:53"').replace("sockets:\n", two)
    assert errors_of(text, folder) == []
