"""Programs of sockmaps: what Linux 6.18 answers to walks over attaching, linking, updating and detaching them."""

import random
from struct import pack
from typing import Any

import pytest

from ebpfsim import Simulation
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType as A
from ebpfsim.uapi.bpf import BpfCmd, MapType
from ebpfsim.uapi.bpf import ProgType as P
from ebpfsim.uapi.bpf_attr import ATTRS

KINDS = (A.SK_MSG_VERDICT, A.SK_SKB_STREAM_PARSER, A.SK_SKB_STREAM_VERDICT, A.SK_SKB_VERDICT)
WALKS, STEPS = 25, 40


class Machine:
    """One kernel: some programs, two maps of sockets and another one, and links by number."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        code = encode(assemble("r0 = 1; exit"))
        self.progs = [bpf.prog_load(kind, code).fd for kind in (P.SK_MSG, P.SK_MSG, P.SK_SKB, P.SK_SKB, P.XDP)]
        # one that was loaded for what it is attached to
        self.progs.append(bpf.prog_load(P.SK_SKB, code, expected_attach_type=A.SK_SKB_VERDICT).fd)
        self.ids = {bpf.obj_get_info_by_fd(fd).id: number for number, fd in enumerate(self.progs)}
        kinds = (MapType.SOCKMAP, MapType.SOCKHASH, MapType.ARRAY)
        self.maps = [bpf.map_create(kind, 4, 4, 4) for kind in kinds]
        self.map_ids = {bpf.obj_get_info_by_fd(fd).id: number for number, fd in enumerate(self.maps)}
        self.links: list[int] = []

    def call(self, command: BpfCmd, **fields: int) -> int:
        """Make a call with fields of its union."""
        return self.bpf.raw(command, ATTRS[command].pack(fields))

    def do(self, step: list[Any]) -> Any:
        """Return the answer to a step: what was asked for, or an errno."""
        try:
            return getattr(self, step[0])(*step[1:])
        except KernelError as error:
            return error.errno_name

    def attach(self, prog: int, where: int, kind: int, flags: int) -> str:
        self.bpf_call(BpfCmd.PROG_ATTACH, prog, where, kind, flags)
        return "ok"

    def detach(self, prog: int, where: int, kind: int, flags: int) -> str:
        self.bpf_call(BpfCmd.PROG_DETACH, prog, where, kind, flags)
        return "ok"

    def bpf_call(self, command: BpfCmd, prog: int, where: int, kind: int, flags: int) -> None:
        fds = {"attach_bpf_fd": self.progs[prog], "target_fd": self.maps[where]}
        self.call(command, attach_type=kind, attach_flags=flags, **fds)

    def link(self, prog: int, where: int, kind: int, flags: int) -> str:
        # not by link_create(), which would not attach anything to this machine
        attr = pack("<IIII", self.progs[prog], self.maps[where], kind, flags)
        self.links.append(self.create(bytearray(attr)))
        return "ok"

    def create(self, attr: bytearray) -> int:
        return self.bpf.raw(BpfCmd.LINK_CREATE, attr)

    def update(self, link: int, prog: int, old: int | None) -> str:
        more = {"old_prog_fd": self.progs[old], "flags": 4} if old is not None else {}
        self.bpf.link_update(self.links[link % len(self.links)], self.progs[prog], **more)
        return "ok"

    def unlink(self, link: int) -> str:
        self.bpf.link_detach(self.links[link % len(self.links)])
        return "ok"

    def close(self, link: int) -> str:
        self.bpf.close(self.links.pop(link % len(self.links)))
        return "ok"

    def info(self, link: int) -> Any:
        # struct bpf_link_info: type, id, prog_id; from offset 16 map_id and attach_type
        room = self.bpf.user.alloc(96)
        fd = self.links[link % len(self.links)]
        self.call(BpfCmd.OBJ_GET_INFO_BY_FD, bpf_fd=fd, info_len=96, info=room)
        words = memoryview(self.bpf.user.read(room, 64)).cast("I")
        self.bpf.user.unmap(room)
        return [words[0], self.ids[words[2]], self.map_ids.get(words[4]), words[5]]

    def query(self, where: int, kind: int) -> Any:
        attr = ATTRS[BpfCmd.PROG_QUERY].pack({"target_fd": self.maps[where], "attach_type": kind})
        self.bpf.raw(BpfCmd.PROG_QUERY, attr)
        return ATTRS[BpfCmd.PROG_QUERY].unpack(attr)["prog_cnt"]


def walk(seed: int) -> list[list[Any]]:
    """Return steps; most of them could work."""
    rng, steps, links = random.Random(seed), list[list[Any]](), 0
    for _ in range(STEPS):
        where, kind = rng.choice([0, 0, 1, 1, 2]), int(rng.choice(KINDS))
        prog = rng.choice([0, 1] if kind == A.SK_MSG_VERDICT else [2, 3, 5]) if rng.random() < 0.9 else rng.randrange(6)
        flags = rng.choice([0] * 9 + [4])
        what = rng.choice(["attach", "detach", "link", "query", *["update", "unlink", "close", "info"] * bool(links)])
        if what in ("attach", "detach", "link"):
            steps.append([what, prog, where, kind, flags])
            # whether it works is known only then; a step on no link is left out
        elif what == "query":
            steps.append([what, where, kind])
        elif what == "update":
            steps.append([what, rng.randrange(8), prog, rng.choice([None, 0, 1, 2, 3])])
        else:
            steps.append([what, rng.randrange(8)])
        links += what == "link"
    return steps


def answers(bpf: Any, machine: type[Machine], seed: int) -> list[Any]:
    """Return what a kernel answers to a walk."""
    world = machine(bpf)
    said = []
    for step in walk(seed):
        if step[0] in ("update", "unlink", "close", "info") and not world.links:
            said.append(None)
        else:
            said.append(world.do(step))
    for fd in [*world.links, *world.progs, *world.maps]:
        bpf.close(fd)
    return said


class LiveMachine(Machine):
    """Maps of its own are the only thing that anything is attached to."""

    def create(self, attr: bytearray) -> int:
        from ebpfsim.live.sys import bpf_bytes

        return bpf_bytes(BpfCmd.LINK_CREATE, bytes(attr))

    def bpf_call(self, command: BpfCmd, prog: int, where: int, kind: int, flags: int) -> None:
        from ebpfsim.live.sys import bpf_bytes

        fds = {"attach_bpf_fd": self.progs[prog], "target_fd": self.maps[where]}
        bpf_bytes(command, bytes(ATTRS[command].pack({"attach_type": kind, "attach_flags": flags, **fds})))


@pytest.fixture
def kernel() -> Any:
    return Simulation(seed=1).host("h").kernel


@pytest.mark.live
def test_walks_as_on_linux(kernel: Any) -> None:
    from ebpfsim.live import Bpf

    live_bpf = Bpf()
    for seed in range(WALKS):
        linux, ours = answers(live_bpf, LiveMachine, seed), answers(kernel.bpf, Machine, seed)
        for step, theirs, mine in zip(walk(seed), linux, ours, strict=True):
            assert (step, mine) == (step, theirs), seed
    assert not list(kernel.links)


@pytest.fixture
def host(kernel: Any) -> Machine:
    return Machine(kernel.bpf)


def test_what_linux_said(host: Machine) -> None:
    msg, parser, stream, verdict = map(int, KINDS)
    rows: list[tuple[list[Any], Any]] = [
        (["attach", 0, 0, msg, 0], "ok"),
        (["attach", 1, 0, msg, 0], "ok"),  # takes its place
        (["detach", 0, 0, msg, 0], "ENOENT"),
        (["query", 0, msg], 1),
        (["link", 0, 0, msg, 0], "ok"),  # so does a link
        (["attach", 1, 0, msg, 0], "EBUSY"),
        (["detach", 0, 0, msg, 0], "EBUSY"),
        (["link", 1, 0, msg, 0], "EBUSY"),
        (["update", 0, 1, 1], "EPERM"),
        (["update", 0, 2, None], "EINVAL"),
        (["update", 0, 1, 0], "ok"),
        (["info", 0], [14, 1, 0, msg]),
        (["unlink", 0], "ok"),
        (["info", 0], [14, 1, None, msg]),
        (["update", 0, 0, None], "ENOLINK"),
        (["unlink", 0], "ok"),
        (["query", 0, msg], 0),
        (["attach", 2, 1, stream, 0], "ok"),
        (["attach", 2, 1, parser, 0], "ok"),
        (["attach", 2, 1, verdict, 0], "EBUSY"),
        (["query", 1, verdict], "EBUSY"),
        (["attach", 2, 2, verdict, 0], "EOPNOTSUPP"),
        (["link", 2, 2, verdict, 0], "EINVAL"),
        (["attach", 2, 1, stream, 4], "EINVAL"),
    ]
    for step, answer in rows:
        assert (step, host.do(step)) == (step, answer)


def test_references_are_given_back(host: Machine, kernel: Any) -> None:
    msg = int(A.SK_MSG_VERDICT)
    assert [host.do(["attach", 0, 0, msg, 0]), host.do(["link", 1, 1, msg, 0])] == ["ok", "ok"]
    for fd in [*host.progs, *host.maps]:
        host.bpf.close(fd)
    # the link holds its map and program, the other map is gone
    assert (len(list(kernel.maps)), len(list(kernel.progs)), len(list(kernel.links))) == (1, 1, 1)
    host.do(["close", 0])
    assert not [*kernel.maps, *kernel.progs, *kernel.links]
