"""Timers and work queues: errnos are Linux 6.18's (asked of both kernels), instants those of the virtual clock."""

from pathlib import Path

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.loader import open_object

OBJECT = Path(__file__).parents[3] / "data" / "helpers" / "later.bpf.o"
INIT, CALLBACK, START, CANCEL, PERIOD, WQ_INIT, WQ_CALLBACK, WQ_START = range(8)
ARRAY, HASH = 0, 1
MS = 1_000_000


class Later:
    """The object, loaded into a kernel."""

    def __init__(self, bpf) -> None:
        self.bpf = bpf
        self.obj = open_object(OBJECT)
        self.obj.load(bpf)
        for key in range(4):
            self.obj.maps["hash"][key] = bytes(self.obj.maps["hash"].value_size)

    def act(self, what: int, key: int = 1, ns: int = 0, flags: int = 0, where: int = ARRAY) -> int:
        """Let the program do something and return what the helper returned."""
        data = bytes([what, key]) + ns.to_bytes(4, "big") + bytes([flags, where]) + bytes(6)
        retval = self.bpf.prog_test_run(self.obj.programs["later"].fd, data).retval
        return retval - (1 << 32) if retval >> 31 else retval

    def arm(self, key: int = 1, ns: int = MS, where: int = ARRAY) -> None:
        """Make a timer and start it."""
        assert [self.act(what, key, ns, 1 if what == INIT else 0, where) for what in (INIT, CALLBACK, START)] == [0] * 3

    def value(self, key: int = 1, where: str = "array") -> dict[str, int]:
        """Return what the callbacks left."""
        return self.obj.maps[where][key]


@pytest.fixture
def sim() -> Simulation:
    return Simulation(seed=1)


@pytest.fixture
def later(sim) -> Later:
    return Later(sim.host("h").bpf)


@pytest.mark.parametrize("where", [ARRAY, HASH], ids=["array", "hash"])
def test_errnos(bpf, where) -> None:
    later = Later(bpf)
    answers = [
        later.act(START, ns=1, where=where),
        later.act(CANCEL, where=where),
        later.act(CALLBACK, where=where),
        later.act(INIT, flags=2, where=where),  # no clock of timers
        later.act(INIT, flags=16, where=where),
        later.act(INIT, flags=1, where=where),
        later.act(INIT, flags=1, where=where),
        later.act(START, ns=1, where=where),  # no callback yet
        later.act(CANCEL, where=where),
        later.act(CALLBACK, where=where),
        later.act(START, flags=4, where=where),
        later.act(START, ns=0xFFFFFFFF, where=where),
        later.act(CANCEL, where=where),
        later.act(START, ns=1, where=where),  # cancelled timers have none either
        later.act(WQ_START, where=where),
        later.act(WQ_INIT, flags=1, where=where),
        later.act(WQ_INIT, where=where),
        later.act(WQ_INIT, where=where),
        later.act(WQ_START, where=where),
        later.act(WQ_CALLBACK, flags=1, where=where),
        later.act(WQ_CALLBACK, where=where),
        later.act(WQ_START, flags=1, where=where),
    ]
    later.obj.close()
    e, busy = -Errno.EINVAL, -Errno.EBUSY
    assert answers[:14] == [e, e, e, e, e, 0, busy, e, 0, 0, e, 0, 1, e]
    assert answers[14:] == [e, e, 0, busy, e, e, 0, e]


@pytest.mark.parametrize(("where", "name"), [(ARRAY, "array"), (HASH, "hash")])
def test_callback_runs_at_its_nanosecond(sim, later, where, name) -> None:
    later.arm(key=3, ns=5 * MS, where=where)
    sim.run(until="4ms")
    assert later.value(3, name)["fired"] == 0
    sim.run()
    value = later.value(3, name)
    # a softirq and some instructions after it expired; a callback cannot cancel its own timer
    assert (value["fired"], value["key"], value["result"]) == (1, 3, (-Errno.EDEADLK) & 0xFFFF_FFFF)
    assert 5 * MS <= value["at"] < 5 * MS + 2_000
    assert 5 * MS <= sim.clock.now_ns < 5 * MS + 2_000


def test_timer_that_starts_itself_again(sim, later) -> None:
    later.act(PERIOD, ns=10 * MS)
    later.arm(ns=10 * MS)
    sim.run(until="95ms")
    assert later.value()["fired"] == 9
    assert later.act(CANCEL) == 1
    sim.run(until="200ms")
    assert later.value()["fired"] == 9


def test_absolute_and_later_starts(sim, later) -> None:
    later.arm(ns=10 * MS)
    assert later.act(START, ns=20 * MS, flags=1) == 0
    sim.run(until="19ms")
    assert later.value()["fired"] == 0
    sim.run(until="21ms")
    assert later.value()["fired"] == 1


def test_timers_go_with_their_value_and_with_the_last_descriptor(sim, later) -> None:
    prog = later.bpf.kernel.fds.lookup(later.obj.programs["later"].fd)
    refs = prog.refs
    later.arm(where=HASH)
    later.arm()
    assert prog.refs == refs + 2
    later.bpf.map_delete_elem(later.obj.maps["hash"].fd, (1).to_bytes(4, "little"))
    assert prog.refs == refs + 1
    later.obj.close()
    assert prog.refs == 0
    sim.run(until="1s")
    assert not sim.clock.waiting


def test_work_runs_once_however_often_it_was_asked_for(sim, later) -> None:
    assert [later.act(what, 2) for what in (WQ_INIT, WQ_CALLBACK, WQ_START, WQ_START)] == [0] * 4
    sim.run()
    assert (later.value(2)["fired"], later.value(2)["key"]) == (100, 2)


@pytest.mark.live
def test_linux_runs_the_callback_too(live_bpf) -> None:
    import time

    later = Later(live_bpf)
    later.arm(key=3)
    for _ in range(200):
        if later.value(3)["fired"]:
            break
        time.sleep(0.005)
    value = later.value(3)
    later.obj.close()
    assert (value["fired"], value["key"], value["result"]) == (1, 3, (-Errno.EDEADLK) & 0xFFFF_FFFF)
