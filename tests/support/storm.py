"""Random changes of what is attached to fourteen hooks of a host while packets and calls go on, beside plain lists.

Each hook has a list of its own: the programs that run, in the order that documentation gives them. A change happens in
the middle of a burst of traffic. What ran during the burst must be the order before the change, as often as it may be,
and then the order after it: no packet and no call sees a part of one and a part of the other.
"""

import hashlib
import random
from collections.abc import Callable
from functools import partial
from typing import Any

from ebpfsim import Simulation
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import ProgType as P
from hooks.text import GRACE_NS

BURST, STEP_NS, PAUSE_NS = 3, 3_000, 60_000
FUNCTION = "bpf_modify_return_test"
REFUSED = "refused"
TRACED = (("e", "fentry", A.TRACE_FENTRY), ("f", "fexit", A.TRACE_FEXIT), ("m", "fmod_ret", A.MODIFY_RETURN))


class Hook:
    """A hook with its model: ``order`` are names of programs as they run."""

    def __init__(self, storm: "Storm", hook: str, place: str, progs: list[str]) -> None:
        self.storm, self.host, self.bpf = storm, storm.host, storm.host.bpf
        self.hook, self.place, self.progs = hook, place, progs

    def order(self) -> list[str]:
        """Return the names of the programs that run now, in order."""
        raise NotImplementedError

    def change(self, rng: random.Random) -> str:
        """Make one change, to the kernel and to the model; tell what it was."""
        raise NotImplementedError

    def clear(self) -> None:
        """Take everything off."""
        raise NotImplementedError

    def refused(self, errno: str, call: Callable[..., Any], *args: Any, **more: Any) -> str:
        """Make a call that must be refused, and leave the model alone."""
        said = ""
        try:
            call(*args, **more)
        except KernelError as error:
            said = error.errno_name
        assert said == errno, f"{call.__name__}: {said or 'ok'}, expected {errno}"
        return REFUSED


class Slot(Hook):
    """XDP of one device in one mode: a program by a link or by netlink."""

    def __init__(self, storm: "Storm", place: str, progs: list[str], flags: int) -> None:
        super().__init__(storm, "xdpgeneric" if flags & f.XDP_FLAGS_SKB_MODE else "xdp", place, progs)
        self.flags = flags
        self.link = 0
        self.prog = ""

    def order(self) -> list[str]:
        return [self.prog] if self.prog else []

    def change(self, rng: random.Random) -> str:
        name, state = rng.choice(self.progs), self.host.device(self.place).xdp
        prog, ifindex = self.storm.prog(name), self.host.device(self.place).ifindex
        if self.link:
            what = rng.choice(["update", "update", "close", "detach", "netlink", "expected"])
            if what == "update":
                self.bpf.link_update(self.link, self.storm.fds[name])
                self.prog = name
            elif what == "netlink":
                return self.refused("EBUSY", state.dev_change_xdp_fd, prog, flags=self.flags)
            elif what == "expected":
                wrong = next(each for each in self.progs if each != self.prog)
                options = {"old_prog_fd": self.storm.fds[wrong], "flags": f.BPF_F_REPLACE}
                return self.refused("EPERM", self.bpf.link_update, self.link, self.storm.fds[name], **options)
            else:
                if what == "detach":
                    self.bpf.link_detach(self.link)
                self.bpf.close(self.link)
                self.link, self.prog = 0, ""
            return what
        if self.prog and rng.random() < 0.3:
            return self.refused("EBUSY", self.bpf.link_create, self.storm.fds[name], ifindex, A.XDP, flags=self.flags)
        if self.prog or rng.random() < 0.5:
            new = prog if not self.prog or rng.random() < 0.7 else None
            state.dev_change_xdp_fd(new, flags=self.flags)
            self.prog = name if new is not None else ""
            return "set"
        self.link = self.bpf.link_create(self.storm.fds[name], ifindex, A.XDP, flags=self.flags)
        self.prog = name
        return "link"

    def clear(self) -> None:
        if self.link:
            self.bpf.close(self.link)
        else:
            self.host.device(self.place).xdp.dev_change_xdp_fd(None, flags=self.flags)
        self.link, self.prog = 0, ""


class Tcx(Hook):
    """tcx of a device in one direction: programs and links, in an order that requests choose."""

    def __init__(self, storm: "Storm", hook: str, place: str, progs: list[str], kind: A) -> None:
        super().__init__(storm, hook, place, progs)
        self.kind = kind
        self.items: list[list[Any]] = []  # name, descriptor of the link or 0

    def order(self) -> list[str]:
        return [name for name, _ in self.items]

    def change(self, rng: random.Random) -> str:
        ifindex, fds = self.host.device(self.place).ifindex, self.storm.fds
        free = [name for name in self.progs if name not in self.order()]
        what = rng.choice(["attach", "attach", "link", "detach", "update", "again"])
        if what in ("attach", "link") and free:
            name, at, flags, more = rng.choice(free), len(self.items), 0, {}
            if self.items and rng.random() < 0.7:
                anchor = rng.randrange(len(self.items))
                before = rng.random() < 0.5
                at, flags = (anchor, f.BPF_F_BEFORE) if before else (anchor + 1, f.BPF_F_AFTER)
                more = {"relative_fd": fds[self.items[anchor][0]]}
            call = self.bpf.prog_attach if what == "attach" else self.bpf.link_create
            link = call(fds[name], ifindex, self.kind, flags=flags, **more)
            self.items.insert(at, [name, link or 0])
            return what
        if not self.items:
            return "nothing"
        item = rng.choice(self.items)
        name, link = item
        if what == "again":
            return self.refused("EEXIST", self.bpf.prog_attach, fds[name], ifindex, self.kind)
        if what == "update" and free:
            new = rng.choice(free)
            if link:
                self.bpf.link_update(link, fds[new])
            else:
                options = {"flags": f.BPF_F_REPLACE, "replace_bpf_fd": fds[name]}
                self.bpf.prog_attach(fds[new], ifindex, self.kind, **options)
            item[0] = new
            return what
        self._remove(item, ifindex)
        return "detach"

    def _remove(self, item: list[Any], ifindex: int) -> None:
        if item[1]:
            self.bpf.close(item[1])
        else:
            self.bpf.prog_detach(self.storm.fds[item[0]], ifindex, self.kind)
        self.items.remove(item)

    def clear(self) -> None:
        for item in list(self.items):
            self._remove(item, self.host.device(self.place).ifindex)


class Filters(Hook):
    """cls_bpf filters of a device in one direction: by priority, under one of them the newest first."""

    def __init__(self, storm: "Storm", direction: str, place: str, progs: list[str]) -> None:
        super().__init__(storm, f"tc_{direction}", place, progs)
        self.direction = direction
        self.items: list[tuple[int, int, str]] = []  # priority, handle, name

    def order(self) -> list[str]:
        return [name for _, _, name in self.items]

    def change(self, rng: random.Random) -> str:
        name, pref, handle = rng.choice(self.progs), rng.randint(1, 3), rng.randint(1, 3)
        prog, host = self.storm.prog(name), self.host
        old = next((at for at, each in enumerate(self.items) if each[:2] == (pref, handle)), None)
        where = {"pref": pref, "handle": handle}
        if old is None:
            if rng.random() < 0.4:
                return self.refused("ENOENT", host.tc_filter_del, self.place, self.direction, pref=9, handle=handle)
            host.tc_filter_add(self.place, self.direction, prog, **where)
            at = next((at for at, each in enumerate(self.items) if each[0] >= pref), len(self.items))
            self.items.insert(at, (pref, handle, name))
            return "add"
        if rng.random() < 0.2:
            return self.refused("EEXIST", host.tc_filter_add, self.place, self.direction, prog, **where)
        if rng.random() < 0.5:
            host.tc_filter_replace(self.place, self.direction, prog, **where)
            self.items[old] = (pref, handle, name)
            return "replace"
        host.tc_filter_del(self.place, self.direction, **where)
        del self.items[old]
        return "del"

    def clear(self) -> None:
        self.host.tc_filter_del(self.place, self.direction)
        self.items.clear()


class Groups(Hook):
    """Programs of a control group and of the one above it: its own run first."""

    def __init__(self, storm: "Storm", kind: A, progs: list[str]) -> None:
        super().__init__(storm, kind.lower, "", progs)
        self.kind = kind
        self.items: dict[str, list[list[Any]]] = {"/a/b": [], "/a": []}

    def order(self) -> list[str]:
        return [name for items in self.items.values() for name, _ in items]

    def change(self, rng: random.Random) -> str:
        path = rng.choice(list(self.items))
        items, fd, fds = self.items[path], self.storm.groups[path], self.storm.fds
        alone = [name for name, link in items if not link]
        free = [name for name in self.progs if name not in alone]
        what = rng.choice(["attach", "link", "link", "detach", "update", "again"])
        if what == "attach" and free:
            name = rng.choice(free)
            self.bpf.prog_attach(fds[name], fd, self.kind, flags=f.BPF_F_ALLOW_MULTI)
            items.append([name, 0])
            return what
        if what == "link" and len(items) < 5:
            name = rng.choice(self.progs)
            items.append([name, self.bpf.link_create(fds[name], fd, self.kind)])
            return what
        if what == "again" and alone:
            options = {"flags": f.BPF_F_ALLOW_MULTI}
            return self.refused("EINVAL", self.bpf.prog_attach, fds[alone[0]], fd, self.kind, **options)
        if not items:
            return "nothing"
        item = rng.choice(items)
        if what == "update" and item[1]:
            item[0] = rng.choice(self.progs)
            self.bpf.link_update(item[1], fds[item[0]])
            return what
        if what == "update" and free:
            options = {"flags": f.BPF_F_ALLOW_MULTI | f.BPF_F_REPLACE, "replace_bpf_fd": fds[item[0]]}
            item[0] = rng.choice(free)
            self.bpf.prog_attach(fds[item[0]], fd, self.kind, **options)
            return "replace"
        self._remove(items, item, fd)
        return "detach"

    def _remove(self, items: list[list[Any]], item: list[Any], fd: int) -> None:
        if item[1]:
            self.bpf.close(item[1])
        else:
            self.bpf.prog_detach(self.storm.fds[item[0]], fd, self.kind)
        items.remove(item)

    def clear(self) -> None:
        for path, items in self.items.items():
            for item in list(items):
                self._remove(items, item, self.storm.groups[path])


class Probes(Hook):
    """One kind of programs on a function: the last attached is first, or last where the kind is ``fifo``."""

    def __init__(self, storm: "Storm", hook: str, progs: list[str], attach: Callable[[str], int], fifo: bool) -> None:
        super().__init__(storm, hook, FUNCTION, progs)
        self.attach, self.fifo = attach, fifo
        self.items: dict[str, int] = {}

    def order(self) -> list[str]:
        return list(self.items) if self.fifo else list(self.items)[::-1]

    def change(self, rng: random.Random) -> str:
        name = rng.choice(self.progs)
        if name not in self.items:
            self.items[name] = self.attach(name)
            return "attach"
        if rng.random() < 0.2 and self.hook in ("fentry", "fexit", "fmod_ret"):
            return self.refused("EBUSY", self.attach, name)
        self.bpf.close(self.items.pop(name))
        return "detach"

    def clear(self) -> None:
        for link in self.items.values():
            self.bpf.close(link)
        self.items.clear()


class Storm:
    """Two hosts and the hooks of one of them. The same seed makes the same changes."""

    def __init__(self, seed: int, *, engine: str = "auto") -> None:
        self.rng = random.Random(seed)
        self.sim = Simulation(seed=seed)
        self.host = self.sim.host("b", cpus=2, stats=True, engine=engine)
        self.peer = self.sim.host("a")
        for number in (0, 1):
            ends = (self.peer.nic(f"eth{number}", f"10.{number}.0.1/24"),
                    self.host.nic(f"eth{number}", f"10.{number}.0.2/24"))  # fmt: skip
            self.sim.link(*ends, delay="1us")
        self.fds: dict[str, int] = {}
        self.groups: dict[str, int] = {}
        for path in ("/a", "/a/b"):
            group = self.host.cgroup(path)
            group.get()
            self.groups[path] = self.host.kernel.fds.install(group)
        self.sink = self.host.udp_socket(port=7, cgroup="/a/b")
        self.host.tc_qdisc_add("eth0")
        self.far = self.peer.udp_socket(port=7)
        self.inside: Callable[[], None] | None = None
        self._function_calls_back()
        self.room = self.host.kernel.mem.alloc(4)
        self.hooks = self._make_hooks()
        self.digest = hashlib.sha256()
        self.changes: dict[str, int] = {}
        self.total_runs: dict[str, int] = {}
        self._warm_up()
        self.refs = {name: self.prog(name).refs for name in self.fds}

    def prog(self, name: str) -> Any:
        """Return a loaded program."""
        return self.host.kernel.fds.lookup(self.fds[name])

    def _load(self, name: str, kind: P, ret: int = 0, expected: A = A(0), function: str = "") -> str:  # noqa: B008
        more = {"attach_btf_id": vmlinux().find(function, Kind.FUNC)} if function else {}
        code = encode(assemble(f"r0 = {ret}; exit"))
        self.fds[name] = self.host.bpf.prog_load(kind, code, name=name, expected_attach_type=expected, **more).fd
        return name

    def _make_hooks(self) -> list[Hook]:
        xdp = [self._load(f"x{n}", P.XDP, 2) for n in range(6)]
        cls = [self._load(f"c{n}", P.SCHED_CLS, -1) for n in range(8)]
        ingress, egress = A.CGROUP_INET_INGRESS, A.CGROUP_INET_EGRESS
        skb = [self._load(f"g{n}", P.CGROUP_SKB, 1) for n in range(5)]
        made: list[Hook] = [
            Slot(self, "eth0", xdp[:3], f.XDP_FLAGS_DRV_MODE), Slot(self, "eth1", xdp[3:], f.XDP_FLAGS_SKB_MODE),
            Tcx(self, "tcx_ingress", "eth0", cls[:4], A.TCX_INGRESS),
            Tcx(self, "tcx_egress", "eth0", cls[2:6], A.TCX_EGRESS),
            Filters(self, "ingress", "eth0", cls[3:]), Filters(self, "egress", "eth0", cls[:5]),
            Groups(self, ingress, skb[:3]), Groups(self, egress, skb[1:]),
        ]  # fmt: skip
        for letter, word, kind in TRACED:
            progs = [self._load(f"{letter}{n}", P.TRACING, 0, kind, FUNCTION) for n in range(4)]
            made.append(Probes(self, word, progs, partial(self._link, target=0, kind=kind), fifo=False))
        probes = [self._load(f"k{n}", P.KPROBE) for n in range(5)]
        made.append(Probes(self, "kprobe", probes[:3], partial(self._probe, is_return=False), fifo=False))
        made.append(Probes(self, "kretprobe", probes[2:], partial(self._probe, is_return=True), fifo=True))
        multi = [self._load(f"u{n}", P.KPROBE, 0, A.TRACE_KPROBE_MULTI) for n in range(4)]
        attach_multi = partial(self._link, target=0, kind=A.TRACE_KPROBE_MULTI, syms=[FUNCTION])
        made.append(Probes(self, "kprobe.multi", multi, attach_multi, fifo=False))
        return made

    def _link(self, name: str, target: int, kind: A, **more: Any) -> int:
        fd: int = self.host.bpf.link_create(self.fds[name], target, kind, **more)
        return fd

    def _probe(self, name: str, is_return: bool) -> int:
        kernel = self.host.kernel
        event = kernel.fds.install(kernel.kprobes.open(FUNCTION, is_return=is_return))
        link = self._link(name, event, A.PERF_EVENT)
        self.host.bpf.close(event)
        return link

    def _function_calls_back(self) -> None:
        # a change may also come from inside the function, while its programs wait for it
        site = self.host.kernel.functions.site(FUNCTION)
        body = site._function

        def changed(cpu: Any, a: int, b: int) -> int:
            inside, self.inside = self.inside, None
            if inside is not None:
                inside()
            return body(cpu, a, b)

        site._function = changed
        site._fill()

    def _warm_up(self) -> None:
        # addresses are resolved before anything is counted
        self.far.sendto(b"x", "10.0.0.2", 7)
        self.far.sendto(b"x", "10.1.0.2", 7)
        self.sink.sendto(b"x", "10.0.0.1", 7)
        self.sim.run()
        self.sim.recorder.runs.clear()

    def _traffic(self) -> None:
        now = self.sim.now_ns
        for number in range(BURST):
            self.sim.clock.call_at(now + number * STEP_NS, self._one_of_each)

    def _one_of_each(self) -> None:
        self.far.sendto(b"x", "10.0.0.2", 7)
        self.far.sendto(b"x", "10.1.0.2", 7)
        self.sink.sendto(b"x", "10.0.0.1", 7)
        kernel = self.host.kernel
        kernel.mem.store(self.room, 4, 0)
        assert getattr(kernel.functions, FUNCTION)(kernel.cpus[0], 1, self.room) == 2

    def step(self) -> None:
        """Make one change during a burst of traffic, and compare what ran."""
        hook, runs = self.rng.choice(self.hooks), self.sim.recorder.runs
        before = {id(each): each.order() for each in self.hooks}

        def change() -> None:
            what = hook.change(self.rng)
            self.changes[what] = self.changes.get(what, 0) + 1

        self._traffic()
        if isinstance(hook, Probes) and self.rng.random() < 0.3:
            self.inside = change
        else:
            self.sim.clock.call_at(self.sim.now_ns + self.rng.randrange(BURST * STEP_NS + 3_000), change)
        start = self.sim.now_ns
        self.sim.clock.run(start + PAUSE_NS)
        for each in self.hooks:
            names = [run.prog for run in runs if run.hook == each.hook and each.place in ("", run.device)]
            check_sequence(names, before[id(each)], each.order(), each.hook)
        for run in runs:
            self.total_runs[run.prog] = self.total_runs.get(run.prog, 0) + 1
        runs.clear()
        self.sink.received.clear()
        self.far.received.clear()
        self._add_images()

    def _add_images(self) -> None:
        kernel = self.host.kernel
        for name, image in kernel.text.images.items():
            self.digest.update(name.encode() + kernel.text.code(image))
        self.digest.update(kernel.xdp_dispatcher.code())

    def end(self) -> None:
        """Take everything off; nothing must be left."""
        for hook in self.hooks:
            hook.clear()
            assert not hook.order()
        self.host.tc_qdisc_del("eth0")
        kernel = self.host.kernel
        assert {name: self.prog(name).stats.run_cnt for name in self.fds} == {
            name: self.total_runs.get(name, 0) for name in self.fds
        }
        kernel.clock.run(self.sim.now_ns + GRACE_NS)
        kernel.text.reclaim()
        kept = 1 if kernel.xdp_dispatcher.page is not None else 0
        assert kernel.text.freed == kernel.text.allocated - kept
        assert kernel.text.charged == 0
        assert (kernel.text.nr_retired, len(kernel.text.images)) == (0, kept)
        assert {name: self.prog(name).refs for name in self.fds} == self.refs
        assert (len(kernel.links), kernel.trampolines.by_key, kernel.xdp_dispatcher.num_progs) == (0, {}, 0)


def check_sequence(names: list[str], before: list[str], after: list[str], what: str) -> None:
    """Check that programs ran in the order before a change, for some packets, and in that after it for the others."""
    for early in range(len(names) // len(before) + 1 if before else 1):
        rest = names[early * len(before) :]
        late = len(rest) // len(after) if after else 0
        enough = early + late >= BURST or not before or not after
        if names[: early * len(before)] == before * early and rest == after * late and enough:
            return
    raise AssertionError(f"{what}: {names} is neither {before} nor {after}, nor one behind the other")
