import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.errors import InputError
from netstack.pcap import CapturedFrame
from netstack.traffic import inject, replay

FRAMES = [bytes(12) + b"\x88\xb5" + bytes([mark]) * 46 for mark in range(3)]


@pytest.fixture
def sender(lab):
    nic = lab.net("a").add_nic("eth0")
    lab.connect(nic, lab.net("b").add_nic("eth0"))
    return nic


def sent(lab, nic) -> list[tuple[int, bytes]]:
    return [(record.time_ns, record.data) for record in lab.frames(nic.net, "out")]


def test_inject_at_an_interval(lab, sender) -> None:
    generator = inject(sender, FRAMES, 1_000, 250, copies=2)
    assert not generator.done
    lab.run()
    assert sent(lab, sender) == [(1_000 + 250 * i, FRAMES[i % 3]) for i in range(6)]
    assert (generator.sent, generator.done) == (6, True)


def test_inject_at_once(lab, sender) -> None:
    inject(sender, FRAMES, 5)
    lab.run()
    assert sent(lab, sender) == [(5, frame) for frame in FRAMES]


def test_frames_are_not_changed_and_use_no_cpu_time(lab, sender) -> None:
    inject(sender, [FRAMES[0]], 0)
    lab.run()
    assert sender.net.cpus[0].elapsed_ps == 0
    assert sent(lab, sender) == [(0, FRAMES[0])]


def test_cancel(lab, sender) -> None:
    generator = inject(sender, FRAMES, 0, 100)
    lab.run(100)
    generator.cancel()
    lab.run()
    assert (generator.sent, generator.done, len(sent(lab, sender))) == (2, True, 2)


def test_nothing_to_send(lab, sender) -> None:
    assert inject(sender, [], 0).done
    assert inject(sender, FRAMES, 0, copies=0).done
    assert replay(sender, [], 0).done


@pytest.mark.parametrize(("speed", "factor"), [(1, 1), (2.0, 2), ("0.5", 0.5), (0.1, 0.1)])
def test_replay_keeps_distances(lab, sender, speed, factor) -> None:
    times = [1_700_000_000_000_000_123, 1_700_000_000_000_000_623, 1_700_000_000_000_002_123]
    capture = [CapturedFrame(time_ns, frame) for time_ns, frame in zip(times, FRAMES, strict=True)]
    replay(sender, capture, 77, speed=speed)
    lab.run()
    assert sent(lab, sender) == [
        (77, FRAMES[0]),
        (77 + round(500 / factor), FRAMES[1]),
        (77 + round(2_000 / factor), FRAMES[2]),
    ]


def test_replay_of_stamps_that_go_back_keeps_the_order(lab, sender) -> None:
    capture = [CapturedFrame(time_ns, frame) for time_ns, frame in zip([100, 50, 130], FRAMES, strict=True)]
    replay(sender, capture, 0)
    lab.run()
    assert sent(lab, sender) == [(0, FRAMES[0]), (0, FRAMES[1]), (30, FRAMES[2])]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda nic: inject(nic, [FRAMES[0], b"short"], 0), "frame 2 has 5 bytes, an Ethernet header alone has 14"),
        (lambda nic: inject(nic, FRAMES, 0, -1), "interval and count cannot be negative"),
        (lambda nic: inject(nic, FRAMES, -1), "frames for 'a/eth0' start at -1 ns, which is before 0 ns"),
        (lambda nic: replay(nic, [], -1), "a replay for 'a/eth0' starts at -1 ns, which is before 0 ns"),
        (lambda nic: replay(nic, [], 0, speed=0), "speed 0 of a replay is not positive"),
        (lambda nic: replay(nic, [], 0, speed=-1.5), "speed -1.5 of a replay is not positive"),
        (lambda nic: replay(nic, [], 0, speed="fast"), "speed 'fast' of a replay is not a number"),
        (lambda nic: replay(nic, [], 0, speed="inf"), "speed 'inf' of a replay is not a number"),
        (lambda nic: replay(nic, [CapturedFrame(0, b"x")], 0), "packet 1 of the capture has 1 bytes"),
    ],
)
def test_refused(sender, call, message) -> None:
    with pytest.raises(InputError, match=message):
        call(sender)


@given(times=st.lists(st.integers(0, 10**6), max_size=30), speed=st.sampled_from([1, 3, 0.7, 1000]))
def test_replay_never_reorders_and_never_drifts(new_lab, times, speed) -> None:
    lab = new_lab()
    nic = lab.net("a").add_nic("eth0")
    lab.connect(nic, lab.net("b").add_nic("eth0"))
    capture = [CapturedFrame(time_ns, FRAMES[0] + bytes([index])) for index, time_ns in enumerate(sorted(times))]
    replay(nic, capture, 10, speed=speed)
    lab.run()
    records = sent(lab, nic)
    assert [data[-1] for _, data in records] == list(range(len(times)))
    for (when_ns, _), packet in zip(records, capture, strict=True):
        assert abs((when_ns - 10) - (packet.time_ns - capture[0].time_ns) / speed) <= 1
