"""Who may attach what to a device: every step below was answered by Linux 6.18, and is asked again by the live test."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ebpfsim.errnos import errno_name
from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, ProgType
from ebpfsim.uapi.net import XdpMode
from hooks.dispatcher import Dispatcher
from hooks.xdp import MAX_SINGLE_BUFFER_MTU, XdpLink, XdpState, bpf_xdp_link_attach, check_xdp_mtu, max_xdp_mtu

MakeProg = Callable[..., Prog]

# include/uapi/linux/if_link.h
NOEXIST, SKB, DRV, HW, REPLACE = 1, 2, 4, 8, 16

LINK_BUSY = "EBUSY: Can't replace active BPF XDP link"
BOTH_MODES = "EEXIST: Native and generic XDP can't be active at the same time"
MISMATCH = "EEXIST: Active program does not match expected"
NO_NATIVE = "EOPNOTSUPP: Underlying driver does not support XDP in native mode"
DEVMAP = "EINVAL: BPF_XDP_DEVMAP programs can not be attached to a device"
CPUMAP = "EINVAL: BPF_XDP_CPUMAP programs can not be attached to a device"
TOO_LARGE = "ERANGE: veth: Peer MTU is too large to set XDP"

# Groups of steps and answers, on fresh devices each: v supports native XDP (a veth device, whose peer's MTU ``mtu``
# sets), lo does not. Programs: P, Q of type xdp, F with fragments, X with expected attach type BPF_XDP, D for devmaps,
# C for cpumaps, S a socket filter. Netlink shows the kernel's words, the system call only the errno.
# fmt: off
GROUPS: dict[str, list[tuple[tuple[Any, ...], str]]] = {
    "a link takes the native mode where there is one": [
        (("link", "L", "v", "P", 0), "ok"), (("state", "v"), "P native"), (("info", "L"), "P on v"),
        (("link", "M", "lo", "P", 0), "ok"), (("state", "lo"), "P generic"),
    ],
    "a link takes the mode that it is told": [
        (("link", "L", "v", "P", SKB), "ok"), (("state", "v"), "P generic"), (("close", "L"), "ok"),
        (("link", "L", "v", "P", DRV), "ok"), (("state", "v"), "P native"), (("close", "L"), "ok"),
        (("state", "v"), "none"),
        (("link", "L", "lo", "P", DRV), "EOPNOTSUPP"), (("link", "L", "lo", "P", HW), "EOPNOTSUPP"),
        (("link", "L", "v", "P", HW), "EINVAL"),
    ],
    "flags of a link": [
        (("link", "L", "v", "P", SKB | DRV), "EINVAL"), (("link", "L", "v", "P", NOEXIST), "EINVAL"),
        (("link", "L", "v", "P", REPLACE), "EINVAL"), (("link", "L", "v", "P", 1 << 5), "EINVAL"),
        (("link", "L", "v", "P", 1 << 31), "EINVAL"), (("state", "v"), "none"),
    ],
    "programs that a link refuses": [
        (("link", "L", "v", "D", 0), "EINVAL"), (("link", "L", "v", "C", 0), "EINVAL"),
        (("link", "L", "v", "S", 0), "EINVAL"), (("link", "L", "v", "X", 0), "ok"),
    ],
    "a device with a link": [
        (("link", "L", "v", "P", 0), "ok"),
        (("link", "M", "v", "Q", 0), "EBUSY"), (("link", "M", "v", "P", DRV), "EBUSY"),
        (("link", "M", "v", "Q", SKB), "EEXIST"), (("link", "M", "v", "Q", HW), "EINVAL"),
        (("netlink", "v", "Q", 0), LINK_BUSY), (("netlink", "v", None, 0), LINK_BUSY),
        (("netlink", "v", "Q", REPLACE, "P"), LINK_BUSY), (("netlink", "v", "Q", SKB), BOTH_MODES),
        (("netlink", "v", None, SKB), "ok"), (("netlink", "v", "Q", HW), "EINVAL"),
        (("state", "v"), "P native"), (("close", "L"), "ok"), (("state", "v"), "none"),
    ],
    "failed attempts use up ids": [
        (("link", "L", "v", "P", 0), "ok"), (("link", "M", "v", "Q", 0), "EBUSY"),
        (("link", "M", "v", "Q", 1 << 5), "EINVAL"), (("link", "M", "v", "S", 0), "EINVAL"),
        (("link", "M", "lo", "Q", 0), "ok"), (("id_after", "M", "L"), "3"),
    ],
    "update": [
        (("link", "L", "v", "P", 0), "ok"),
        (("update", "L", "Q", "Q"), "EPERM"), (("update", "L", "S", "Q"), "EPERM"),
        (("update", "L", "S", None), "EINVAL"), (("update", "L", "D", None), "EINVAL"),
        (("update", "L", "X", None), "EINVAL"),
        (("update", "L", "Q", "P"), "ok"), (("info", "L"), "Q on v"), (("state", "v"), "Q native"),
        (("update", "L", "F", None), "ok"), (("update", "L", "F", None), "ok"), (("update", "L", "F", "P"), "EPERM"),
        (("info", "L"), "F on v"),
    ],
    "detach keeps the link": [
        (("link", "L", "v", "P", 0), "ok"), (("detach", "L"), "ok"), (("info", "L"), "P on nothing"),
        (("state", "v"), "none"), (("detach", "L"), "ok"), (("update", "L", "Q", None), "ENOLINK"),
        (("update", "L", "S", None), "ENOLINK"), (("link", "M", "v", "Q", 0), "ok"), (("close", "L"), "ok"),
        (("state", "v"), "Q native"),
    ],
    "a device goes": [
        (("link", "L", "v", "P", 0), "ok"), (("remove",), "ok"), (("info", "L"), "P on nothing"),
        (("update", "L", "Q", None), "ENOLINK"), (("detach", "L"), "ok"),
    ],
    "netlink sets, replaces and removes": [
        (("netlink", "v", "P", 0), "ok"), (("state", "v"), "P native"), (("netlink", "v", "Q", 0), "ok"),
        (("state", "v"), "Q native"), (("netlink", "v", "Q", 0), "ok"),
        (("netlink", "v", None, SKB), "ok"), (("state", "v"), "Q native"),
        (("netlink", "v", None, NOEXIST), "ok"), (("state", "v"), "none"), (("netlink", "v", None, 0), "ok"),
    ],
    "netlink with UPDATE_IF_NOEXIST": [
        (("netlink", "v", "P", NOEXIST), "ok"), (("netlink", "v", "Q", NOEXIST), "EBUSY: XDP program already attached"),
        (("netlink", "v", "P", NOEXIST), "EBUSY: XDP program already attached"),
        (("netlink", "v", "D", NOEXIST), "EBUSY: XDP program already attached"),
        (("netlink", "v", "Q", NOEXIST | SKB), BOTH_MODES),
    ],
    "netlink with an expected program": [
        (("netlink", "v", "P", REPLACE, "Q"), MISMATCH), (("netlink", "v", "P", REPLACE, None), "ok"),
        (("netlink", "v", "Q", REPLACE, None), MISMATCH), (("netlink", "v", "Q", REPLACE, "Q"), MISMATCH),
        (("netlink", "v", "Q", REPLACE, "S"), "EINVAL"), (("netlink", "v", "Q", REPLACE, "P"), "ok"),
        (("netlink", "v", "P", 0, "P"), "ok"), (("state", "v"), "P native"),
        (("netlink", "v", None, REPLACE, "Q"), MISMATCH), (("netlink", "v", None, REPLACE, "P"), "ok"),
        (("state", "v"), "none"),
    ],
    "modes by netlink": [
        (("netlink", "v", "P", SKB | DRV), "EINVAL"), (("netlink", "v", "P", 1 << 5), "EINVAL"),
        (("netlink", "v", "P", SKB), "ok"), (("state", "v"), "P generic"),
        (("netlink", "v", "Q", 0), BOTH_MODES), (("netlink", "v", "Q", DRV), BOTH_MODES),
        (("netlink", "v", "D", DRV), BOTH_MODES), (("netlink", "v", None, 0), "ok"), (("state", "v"), "P generic"),
        (("link", "L", "v", "Q", 0), "EEXIST"), (("link", "L", "v", "Q", SKB), "EBUSY"),
        (("netlink", "v", None, SKB), "ok"), (("state", "v"), "none"),
        (("netlink", "v", "P", HW), "EINVAL"), (("netlink", "v", None, HW), "ok"),
    ],
    "no link over a program of netlink": [
        (("netlink", "v", "P", 0), "ok"), (("link", "L", "v", "P", 0), "EBUSY"),
        (("link", "L", "v", "Q", SKB), "EEXIST"), (("netlink", "v", "Q", HW), "EINVAL"), (("state", "v"), "P native"),
    ],
    "programs that netlink refuses": [
        (("netlink", "v", "D", 0), DEVMAP), (("netlink", "v", "C", 0), CPUMAP), (("netlink", "v", "S", 0), "EINVAL"),
        (("netlink", "v", "D", SKB), DEVMAP), (("netlink", "v", "D", HW), DEVMAP),
    ],
    "a device without native XDP": [
        (("netlink", "lo", "P", DRV), NO_NATIVE), (("netlink", "lo", "P", HW), NO_NATIVE),
        (("netlink", "lo", "P", 0), "ok"), (("state", "lo"), "P generic"), (("netlink", "lo", "P", DRV), BOTH_MODES),
        (("netlink", "lo", None, DRV), "ok"), (("state", "lo"), "P generic"), (("netlink", "lo", None, 0), "ok"),
        (("state", "lo"), "none"),
    ],
    "the MTU bounds native programs that know no fragments": [
        (("mtu", 3506), "ok"), (("netlink", "v", "P", 0), "ok"), (("netlink", "v", None, 0), "ok"),
        (("mtu", 3507), "ok"), (("netlink", "v", "P", 0), TOO_LARGE), (("link", "L", "v", "P", 0), "ERANGE"),
        (("netlink", "v", "P", SKB), "ok"), (("netlink", "v", None, SKB), "ok"),
        (("link", "L", "v", "F", 0), "ok"), (("update", "L", "P", None), "ERANGE"), (("info", "L"), "F on v"),
        (("update", "L", "P", "Q"), "EPERM"), (("state", "v"), "F native"),
    ],
}
# fmt: on


class Device:
    """A device with or without native XDP; ``peer_mtu`` is what its driver looks at."""

    def __init__(self, kernel: Any, name: str, ifindex: int, native: bool) -> None:
        self.name, self.ifindex, self.native, self.peer_mtu = name, ifindex, native, 1500
        self.installed: list[Prog | None] = []
        self.xdp = XdpState(self, kernel, kernel.dispatcher)

    @property
    def ndo_bpf(self) -> Callable[[Prog | None], None] | None:
        return self.setup if self.native else None

    def setup(self, prog: Prog | None) -> None:
        check_xdp_mtu(prog, self.peer_mtu)
        self.installed.append(prog)


class Model:
    """What live_xdp_attach.py does with the kernel of the machine, done with ours."""

    def __init__(self, kernel: Any, new_prog: MakeProg) -> None:
        self.kernel = kernel
        kernel.dispatcher = Dispatcher(kernel)
        kinds: dict[str, dict[str, Any]] = {
            "P": {}, "Q": {}, "F": {"prog_flags": 32}, "S": {"type": ProgType.SOCKET_FILTER},
            "X": {"expected_attach_type": AttachType.XDP}, "D": {"expected_attach_type": AttachType.XDP_DEVMAP},
            "C": {"expected_attach_type": AttachType.XDP_CPUMAP},
        }  # fmt: skip
        self.progs = {name: new_prog(name, **kind) for name, kind in kinds.items()}
        self.devices = {"lo": Device(kernel, "lo", 1, False), "v": Device(kernel, "v", 2, True)}
        self.links: dict[str, XdpLink] = {}

    def link(self, name: str, dev: str, prog: str, flags: int) -> str:
        from hooks.attach import attach_table

        def create() -> None:
            self.kernel.devices = {d.ifindex: d for d in self.devices.values()}
            ifindex = self.devices[dev].ifindex
            row = attach_table(self.kernel).point(AttachType.XDP)
            assert row.link_create is not None
            made = row.link_create(self.progs[prog], ifindex, flags, {})
            assert isinstance(made, XdpLink)
            self.links[name] = made

        return self.answer(create).partition(":")[0]

    def update(self, name: str, prog: str, old: str | None) -> str:
        expected = self.progs[old] if old else None
        return self.answer(lambda: self.links[name].update(self.progs[prog], expected)).partition(":")[0]

    def detach(self, name: str) -> str:
        return self.answer(self.links[name].detach)

    def close(self, name: str) -> str:
        return self.answer(self.links.pop(name).put)

    def netlink(self, dev: str, prog: str | None, flags: int, expected: str | None = "") -> str:
        def change() -> None:
            new, old = (self.progs[p] if p else None for p in (prog, expected))
            self.devices[dev].xdp.dev_change_xdp_fd(new, flags=flags, expected=old)

        return self.answer(change)

    def mtu(self, mtu: int) -> str:
        self.devices["v"].peer_mtu = mtu
        return "ok"

    def remove(self) -> str:
        return self.answer(self.devices.pop("v").xdp.uninstall)

    def info(self, name: str) -> str:
        info = self.links[name].info()
        device = next((d.name for d in self.devices.values() if d.ifindex == info["ifindex"]), "nothing")
        return f"{self.links[name].prog.name} on {device}"

    def id_after(self, name: str, other: str) -> str:
        return str(self.links[name].id - self.links[other].id)

    def state(self, dev: str) -> str:
        xdp = self.devices[dev].xdp
        return f"{xdp.active.prog.name} {xdp.mode.name.lower()}" if xdp.active else "none"

    def answer(self, action: Callable[[], None]) -> str:
        try:
            action()
        except KernelError as refused:
            return f"{errno_name(refused.errno)}: {refused.detail}" if refused.detail else errno_name(refused.errno)
        return "ok"

    def end(self) -> None:
        for link in self.links.values():
            link.put()
        for device in self.devices.values():
            device.xdp.uninstall()


@pytest.mark.parametrize("group", GROUPS)
def test_attaching_as_on_linux(kernel: Any, new_prog: MakeProg, group: str) -> None:
    model = Model(kernel, new_prog)
    for number, (step, want) in enumerate(GROUPS[group]):
        found = getattr(model, step[0])(*step[1:])
        if ":" not in want:
            # where the kernel has no words, ours are for the user
            found = found.partition(":")[0]
        assert found == want, f"step {number}: {step}"
    model.end()
    assert all(prog.refs == 1 for prog in model.progs.values()), "a reference is left"
    assert len(kernel.links) == 0
    assert kernel.dispatcher.num_progs == 0


@pytest.mark.live
def test_linux_gives_the_same_answers() -> None:
    script = Path(__file__).with_name("live_xdp_attach.py")
    steps = [[step for step, _ in group] for group in GROUPS.values()]
    command = ["unshare", "-n", sys.executable, str(script)]
    try:
        done = subprocess.run(command, input=json.dumps(steps), capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode and "unshare" in done.stderr.partition("\n")[0]:
        pytest.skip("no network namespaces here")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for group, found in zip(GROUPS, answers, strict=True):
        for (step, want), answer in zip(GROUPS[group], found, strict=True):
            # ids are the whole machine's: others may take some in between
            same = int(answer) >= int(want) if step[0] == "id_after" else answer == want
            assert same, f"{group}: {step} gave {answer}, recorded {want}"


def test_dispatcher_follows_attach_update_and_detach(kernel: Any, new_prog: MakeProg) -> None:
    model = Model(kernel, new_prog)
    p, q = model.progs["P"], model.progs["Q"]
    link = bpf_xdp_link_attach(kernel, model.devices["v"].xdp, p, 0)
    model.devices["lo"].xdp.dev_change_xdp_fd(q)
    assert kernel.dispatcher.image.entries == (p, q)
    link.update(q)
    assert (kernel.dispatcher.image.entries, kernel.dispatcher.users(q)) == ((q,), 2)
    link.detach()
    assert kernel.dispatcher.users(q) == 1
    model.devices["lo"].xdp.uninstall()
    assert kernel.dispatcher.image.entries == ()


def test_driver_hears_of_native_programs_only(kernel: Any, new_prog: MakeProg) -> None:
    model = Model(kernel, new_prog)
    device, p, q = model.devices["v"], model.progs["P"], model.progs["Q"]
    device.xdp.dev_change_xdp_fd(p, flags=SKB)
    device.xdp.dev_change_xdp_fd(None, flags=SKB)
    assert device.installed == []
    device.xdp.dev_change_xdp_fd(p)
    device.xdp.dev_change_xdp_fd(p)
    device.xdp.dev_change_xdp_fd(q)
    device.xdp.dev_change_xdp_fd(None)
    assert device.installed == [p, q, None]


def test_refused_program_leaves_everything_as_it_was(kernel: Any, new_prog: MakeProg) -> None:
    model = Model(kernel, new_prog)
    device = model.devices["v"]
    device.xdp.dev_change_xdp_fd(model.progs["F"])
    device.peer_mtu = 9000
    before = (kernel.dispatcher.generation, len(kernel.recorder.notes))
    with pytest.raises(KernelError, match="Peer MTU is too large"):
        device.xdp.dev_change_xdp_fd(model.progs["P"])
    assert (kernel.dispatcher.generation, len(kernel.recorder.notes)) == before
    assert (model.state("v"), model.progs["P"].refs) == ("F native", 1)


def test_stats_stay_with_the_link_and_start_anew_with_netlink(kernel: Any, new_prog: MakeProg) -> None:
    model = Model(kernel, new_prog)
    xdp = model.devices["v"].xdp
    link = bpf_xdp_link_attach(kernel, xdp, model.progs["P"], 0, "guard")
    assert xdp.native is not None
    assert (xdp.native.label, xdp.native.stats) == ("guard", link.stats)
    link.update(model.progs["Q"])
    assert (xdp.native.prog, xdp.native.stats) == (model.progs["Q"], link.stats)
    link.detach()
    xdp.dev_change_xdp_fd(model.progs["P"])
    assert (xdp.native.label, xdp.native.stats.runs, xdp.native.stats is link.stats) == ("", 0, False)
    assert (xdp.mode, xdp.slot(XdpMode.GENERIC)) == (XdpMode.NATIVE, None)


def test_changes_are_noted(kernel: Any, new_prog: MakeProg) -> None:
    model = Model(kernel, new_prog)
    link = bpf_xdp_link_attach(kernel, model.devices["v"].xdp, model.progs["P"], SKB, "guard")
    link.update(model.progs["Q"])
    link.detach()
    notes = [note for note in kernel.recorder.notes if note.kind != "dispatcher"]
    assert [(note.kind, note.text) for note in notes] == [
        ("attach", "xdp attach: program 'P' (id 0), generic, device v"),
        ("update", "xdp update: program 'Q' (id 0), generic, device v"),
        ("detach", "xdp detach: program 'Q' (id 0), generic, device v"),
    ]
    assert notes[0].details == {"hook": "xdp", "device": "v", "mode": "generic", "prog_id": 0, "link": "guard"}


def test_largest_mtu(new_prog: MakeProg) -> None:
    """facts/kernel-6.18.md: 3506 without fragments; veth_xdp_set() adds 17 pages with them."""
    assert MAX_SINGLE_BUFFER_MTU == 3506
    assert max_xdp_mtu(new_prog()) == 3506
    assert max_xdp_mtu(new_prog(prog_flags=1 << 5)) == 3506 + 17 * 4096
    check_xdp_mtu(None, 65535)
