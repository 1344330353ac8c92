"""Random sequences of steps on hooks, for both kernels, and how the simulated kernel answers them.

Families: ``xdp``, ``tcx``, ``tc``, ``netns`` (in a network namespace of one's own), ``cgroup``, ``trace``, ``replace``
(on a Linux to be thrown away). Steps are those of the modules ``*_steps.py``.
"""

import random
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cgroup_steps
import replace_steps
import tc_steps
import trace_steps
import xdp_steps

HERE = Path(__file__).resolve().parent
HOOKS = HERE.parent / "unit" / "hooks"
sys.path.insert(0, str(HOOKS))
import netns_steps  # noqa: E402
import tcx_steps  # noqa: E402

Steps = list[list[Any]]
LIVE, VM = ("xdp", "tcx", "tc", "netns"), ("cgroup", "trace", "replace")
FUNCTIONS = ["bpf_fentry_test1", "bpf_fentry_test2", "bpf_fentry_test6", "bpf_modify_return_test"]


class Names:
    """Names of links that are made and given up."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.known, self.count = rng, [""][:0], 0

    def new(self) -> str:
        """Return another name."""
        self.count += 1
        self.known.append(f"L{self.count}")
        return self.known[-1]

    def any(self) -> str:
        """Return one of the names."""
        return self.rng.choice(self.known)

    def gone(self) -> str:
        """Return one of the names, which is none any more."""
        found = self.any()
        self.known.remove(found)
        return found


def _xdp(rng: random.Random, size: int) -> Steps:
    steps: Steps = []
    links, gone = Names(rng), False
    progs, weights = list("PQDCSFX"), [6, 6, 1, 1, 1, 3, 1]
    flags = [0, 0, 0, 2, 4, 2, 4, 8, 1, 1 | 2, 1 | 4, 16 | 2, 16 | 4, 6, 32, 1 | 16, 8 | 16, 64, 1 << 31]
    while len(steps) < size:
        device = "lo" if gone else rng.choice(["v", "v", "v", "lo"])
        (prog,), (other,) = rng.choices(progs, weights), rng.choices([*progs, None], [*weights, 5])
        what = rng.random()
        if what < 0.25:
            steps.append(["link", links.new(), device, prog, rng.choice(flags)])
        elif what < 0.6:
            flag = rng.choice(flags)
            more = [other] if flag & 16 or rng.random() < 0.4 else []
            steps.append(["netlink", device, prog if rng.random() < 0.7 else None, flag, *more])
        elif what < 0.7 and links.known:
            steps.append(["update", links.any(), prog, other])
        elif what < 0.75 and links.known:
            steps.append(["detach", links.any()])
        elif what < 0.83 and links.known:
            steps.append(["close", links.gone()])
        elif what < 0.9 and links.known:
            steps.append(["info", links.any()])
        elif what < 0.905 and not gone:
            steps.append(["remove"])
            gone = True
        elif what < 0.93 and not gone:
            steps.append(["mtu", rng.choice([1500, 3506, 3400])])
        else:
            steps.append(["state", device])
    return steps


def _tcx(rng: random.Random, size: int) -> Steps:
    steps: Steps = []
    links = Names(rng)
    words = ["", "before", "after", "before after", "replace", "replace before", "replace after"]
    rare = ["id before", "id after", "link before", "link id after", "link id before", "id", "link", "replace id"]
    while len(steps) < size:
        prog = f"P{rng.randint(1, 7)}" if rng.random() < 0.95 else "S1"
        flags = rng.choice(words if rng.random() < 0.75 else rare)
        opts: dict[str, Any] = {"flags": flags} if flags else {}
        if "link" in flags.split():
            opts |= {"rel": links.any()} if links.known else {}
        elif rng.random() < (0.6 if flags else 0.1):
            # what is an id must be one of a program
            links_too = links.known[:1] if "id" not in flags else []
            opts["rel"] = rng.choice([f"P{rng.randint(1, 7)}"] * 5 + ["bad"] + links_too)
        if "replace" in flags:
            opts["old"] = f"P{rng.randint(1, 7)}"
        if rng.random() < 0.1:
            opts["revision"] = rng.randint(1, 8)
        what = rng.random()
        if what < 0.35:
            steps.append(["attach", prog, opts])
        elif what < 0.55:
            steps.append(["detach", prog if rng.random() < 0.7 else "", opts])
        elif what < 0.75:
            opts.pop("old", None)
            steps.append(["link", links.new(), opts | {"prog": prog}])
        elif links.known:
            word = rng.choice(["update", "update", "unlink", "close", "info"])
            more = {"prog": prog} | ({"old": f"P{rng.randint(1, 7)}"} if rng.random() < 0.5 else {})
            name = links.gone() if word == "close" else links.any()
            steps.append([word, name, more] if word == "update" else [word, name])
    return steps


def _tc(rng: random.Random, size: int) -> Steps:
    steps: Steps = [["qdisc_add", "ingress" if rng.random() < 0.15 else "clsact"]]
    kinds, weights = ["P1", "P2", "P3", "P4", "A1", "X1"], [5, 5, 5, 5, 1, 1]
    while len(steps) < size:
        what, direction = rng.random(), "egress" if rng.random() < 0.25 else "ingress"
        given: dict[str, Any] = {}
        if rng.random() < 0.7:
            given["pref"] = rng.choice([1, 2, 2, 3, 49152, 65535])
        if rng.random() < 0.5:
            given["handle"] = rng.choice([1, 1, 2, 3, 0x10, 0x7FFF_FFFF, 0xFFFF_FFFF])
        if rng.random() < 0.25:
            given["protocol"] = rng.choice(["ip", "all", "ipv6"])
        if rng.random() < 0.2:
            given["chain"] = rng.choice([0, 1, 7])
        if what < 0.5:
            given |= {"da": False} if rng.random() < 0.3 else {}
            given |= {"classid": rng.choice([0x10001, 0x20000, 5])} if rng.random() < 0.3 else {}
            (how,), (kind,) = rng.choices(["add", "replace", "change"], [4, 3, 1.5]), rng.choices(kinds, weights)
            steps.append(["filter", how, direction, kind, given])
        elif what < 0.75:
            steps.append(["delete", direction, given])
        elif what < 0.81:
            steps.append([rng.choice(["qdisc_add", "qdisc_del"]), rng.choice(["clsact", "ingress"])])
        else:
            steps.append(["show", direction])
    return steps


def _netns(rng: random.Random, size: int) -> Steps:
    steps: Steps = []
    links = Names(rng)
    while len(steps) < size:
        kind, what = rng.choice("FFL"), rng.random()
        prog = f"{kind}{rng.randint(1, 3)}"
        more: dict[str, Any] = {"flags": rng.choice([1, 2, 4, 8])} if rng.random() < 0.12 else {}
        more |= {"fd": rng.choice([987, 1])} if rng.random() < 0.12 else {}
        if what < 0.5:
            steps.append(["attach" if what < 0.3 else "detach", prog, more])
        elif what < 0.75:
            steps.append(["link", prog, more | {"id": links.new()}])
        elif links.known:
            word = rng.choice(["update", "update", "unlink"])
            old = {"old": f"{kind}{rng.randint(1, 3)}"} if word == "update" and rng.random() < 0.4 else {}
            steps.append([word, prog, {"id": links.any()} | old])
    return steps


def _cgroup(rng: random.Random, size: int) -> Steps:
    paths = ["a", "a/b", "a/b/c", "a/d"]
    steps: Steps = [["mkdir", path] for path in paths]
    letters = {"egress": "E", "ingress": "I", "create": "S", "connect": "C", "device": "D"}
    kinds, links = ["egress"] * 5 + ["ingress", "create", "connect", "device"], Names(rng)
    flags = rng.choice([[2, 2, 2, 2, 2, 0, 1], [0, 1, 2], [1, 1, 1, 0, 2]])
    while len(steps) < size:
        path, kind, what = rng.choice(paths), rng.choice(kinds), rng.random()
        prog, other = (letters[kind] + str(rng.randint(1, 4)) for _ in range(2))
        if rng.random() < 0.06:
            prog = rng.choice(["E1", "I1", "S1", "C1", "X1", "bad", "D1"])
        if what < 0.34:
            flag, dice = rng.choice(flags), rng.random()
            step = ["attach", path, prog, kind, flag]
            if dice < 0.15:
                step[4:] = [flag | 4, other]
            elif dice < 0.2:
                step[4] = rng.choice([3, 4, 5, 6, 7, 128])
            steps.append(step)
        elif what < 0.5:
            steps.append(["detach", path, prog if rng.random() < 0.8 else "", kind])
        elif what < 0.63:
            steps.append(["link", links.new(), path, prog, kind, rng.choice([0, 0, 0, 0, 0, 1, 2, 4])])
        elif what < 0.73 and links.known:
            word = rng.choice(["update", "update", "unlink", "close", "info"])
            more = [prog, *([other] if rng.random() < 0.4 else [])] if word == "update" else []
            steps.append([word, links.gone() if word == "close" else links.any(), *more])
        elif what < 0.745:
            steps.append(["rmdir", rng.choice(paths)])
        else:
            steps.append(["query", path, kind, rng.choice([0, 1, 1])])
    return steps


class _Trace:
    # programs on functions of the kernel: trampolines and probes
    def __init__(self, rng: random.Random) -> None:
        self.rng, self.links, self.steps = rng, Names(rng), [[""]][:0]
        self.progs: list[tuple[str, str]] = []
        self.events: list[str] = []
        self.letters = list(string.ascii_letters)

    def load(self) -> None:
        rng, name = self.rng, self.letters.pop(0)
        kind = rng.choice(["fentry", "fexit", "fmod_ret", "kprobe", "multi", "session"])
        function, ret = rng.choice(FUNCTIONS) if kind.startswith("f") else "", 0
        if kind == "fmod_ret":
            function, ret = rng.choice([FUNCTIONS[0]] + 3 * [FUNCTIONS[3]]), rng.choice([0, 0, 5, -13, 7])
        if kind == "session":
            ret = rng.choice([0, 0, 1])
        sleeps = rng.random() < 0.1 and kind not in ("multi", "session")
        self.steps.append(["load", name, kind, function, ret, 16 if sleeps else 0])
        self.progs.append((name, kind))

    def link(self) -> None:
        rng, (prog, kind) = self.rng, self.rng.choice(self.progs)
        opts: dict[str, Any] = {}
        if kind.startswith("f"):
            if rng.random() < 0.15:
                self.steps.append(["raw", self.links.new(), prog])
                return
            rare = [
                ("type", [0, 24, 25, 26, 27, 41, 42]),
                ("cookie", [77]),
                ("flags", [1, 4]),
                ("target_btf_id", [1, 5]),
            ]
            opts = {name: rng.choice(values) for name, values in rare if rng.random() < 0.07}
        elif kind == "kprobe":
            if not self.events or rng.random() < 0.6:
                self.events.append(f"E{len(self.steps)}")
                self.steps.append(["event", self.events[-1], rng.choice(FUNCTIONS), rng.random() < 0.4])
            opts = {"type": 41, "target": rng.choice(self.events)}
        else:
            opts["syms"] = rng.sample(FUNCTIONS, rng.choice([1, 1, 2, 3]))
            if rng.random() < 0.1:
                opts["syms"] = rng.choice([[], ["nosuch"], 2 * FUNCTIONS[:1], [FUNCTIONS[0], "nosuch"]])
            rare = [("kprobe_multi_flags", [1, 1, 1, 2, 3]), ("type", [42, 56, 41, 0]), ("flags", [1])]
            opts |= {name: rng.choice(values) for name, values in rare if rng.random() < 0.15}
        self.steps.append(["link", self.links.new(), prog, opts])

    def other(self, what: float) -> None:
        rng, links = self.rng, self.links
        if what < 0.72 and links.known:
            self.steps.append(["close", links.gone()])
        elif what < 0.75 and links.known:
            word = rng.choice(["update", "detach"])
            self.steps.append([word, links.any(), *([rng.choice(self.progs)[0]] if word == "update" else [])])
        elif what < 0.79 and links.known:
            self.steps.append(["info", links.any()])
        elif what < 0.82 and self.events:
            self.steps.append(["close_event", self.events.pop(rng.randrange(len(self.events)))])
        elif what < 0.84 and len(self.progs) > 1:
            self.steps.append(["close_prog", self.progs.pop(rng.randrange(len(self.progs)))[0]])
        else:
            self.steps.append(["fire"])


def _trace(rng: random.Random, size: int) -> Steps:
    walk = _Trace(rng)
    while len(walk.steps) < size:
        what = rng.random()
        if (what < 0.3 and walk.letters) or not walk.progs:
            walk.load()
        elif what < 0.6:
            walk.link()
        else:
            walk.other(what)
    return [*walk.steps, ["fire"]]


def _replace(rng: random.Random, size: int) -> Steps:
    steps: Steps = [["load", "X", "xmain"], ["load", "Y", "xmain"], ["load", "T", "tmain"]]
    progs, links, targets = [""][:0], Names(rng), ["X", "X", "X", "Y", "T"]
    good = ["fentry_xmain", "fexit_xmain", "fentry_sub_s", "fexit_sub_s", "fexit_sub_g"] + 2 * [
        "rep", "rep_other", "rep_main"]  # fmt: skip
    bad = ["rep_static", "rep_two", "rep_skb", "rep_void", "rep_int", "modifies", "sleepable", "fentry_tmain"]
    while len(steps) < size:
        what = rng.random()
        if what < 0.25 or not progs:
            target = rng.choice(progs) if rng.random() < 0.12 and progs else rng.choice(targets)
            progs.append(f"p{len(steps)}")
            steps.append(["load", progs[-1], rng.choice(good if rng.random() < 0.85 else bad), target])
        elif what < 0.55:
            step = ["link", links.new(), rng.choice(progs)]
            if rng.random() < 0.45:
                step += [rng.choice(targets), rng.choice(["sub_g", "sub_g", "xmain", "sub_s"])]
            steps.append(step)
        elif what < 0.7 and links.known:
            steps.append(["close", links.gone()])
        elif what < 0.75 and links.known:
            steps.append(["info", links.any()])
        elif what < 0.78:
            steps.append(["unload", progs.pop(rng.randrange(len(progs)))])
        else:
            steps.append(["run", rng.choice(["X", "X", "Y", "T"])])
    return [*steps, ["run", "X"], ["run", "Y"], ["run", "T"]]


GENERATORS: dict[str, Callable[[random.Random, int], Steps]] = {
    "xdp": _xdp, "tcx": _tcx, "tc": _tc, "netns": _netns, "cgroup": _cgroup, "trace": _trace, "replace": _replace,
}  # fmt: skip


def walk(family: str, seed: int, size: int = 40) -> Steps:
    """Return random steps."""
    return GENERATORS[family](random.Random(f"{family} {seed}"), size)


def tolerant(step: Callable[..., Any], *args: Any) -> Any:
    """Do a step; a name that an earlier refusal left unknown is an answer, too."""
    try:
        return step(*args)
    except KeyError as error:
        return f"no {error}"


def simulated(family: str, steps: Steps, make_kernel: Callable[[], Any]) -> list[Any]:
    """Return the simulated kernel's answers."""
    from ebpfsim import Simulation

    if family == "xdp":
        place = xdp_steps.Simulated()
        return [place.step(*step) for step in steps]
    if family == "tc":
        return tc_steps.answers(tc_steps.Simulated(Simulation().host("h")), steps)
    if family == "tcx":
        tcx = tcx_steps.Place(Simulation().host("h").bpf)
        return [tolerant(tcx.step, *step) for step in steps]
    if family == "netns":
        host = Simulation().host("h")
        return netns_steps.answers(host.bpf, host.netns_fd, steps)
    kernel = make_kernel()
    if family == "cgroup":
        return cgroup_steps.answers(cgroup_steps.Simulated(kernel), steps)
    if family == "trace":
        return trace_steps.answers(trace_steps.Simulated(kernel), steps)
    return replace_steps.answers(kernel.bpf, steps)


def same(ours: Any, linux: Any) -> bool:
    """Compare answers: where Linux says nothing beyond an errno, ours may have words of its own."""
    if isinstance(ours, str) and isinstance(linux, str) and ":" not in linux:
        return ours.partition(":")[0] == linux
    return bool(ours == linux)


def first_difference(steps: Steps, ours: list[Any], linux: list[Any]) -> str:
    """Return the first step that is answered differently, with what came before it; nothing when there is none."""
    for at, step in enumerate(steps):
        if not same(ours[at], linux[at]):
            before = "\n".join(f"    {done} -> {said}" for done, said in zip(steps[:at], linux[:at], strict=True))
            return f"{before}\n{step}: ours {ours[at]}, Linux {linux[at]}"
    return ""
