"""What signals do unless something else was said (signal(7)), and which one comes first."""

from tracing.signal_state import SIG_IGN, Action, GroupSignals, SignalState


def test_defaults() -> None:
    state = SignalState(None)
    # ignored by default: CHLD, CONT, URG, WINCH; ending: TERM, KILL, USR1; stopping: STOP, TSTP
    assert [state.ignores(sig) for sig in (17, 18, 23, 28, 15, 9, 10, 19, 20)] == [True] * 4 + [False] * 5
    assert [state.is_fatal(sig) for sig in (17, 15, 9, 10, 19, 20)] == [False, True, True, True, False, False]
    state.group.actions[15] = Action(SIG_IGN)
    assert state.ignores(15)
    assert not state.is_fatal(15)


def test_order_and_masks() -> None:
    group = GroupSignals()
    one, two = SignalState(group), SignalState(group)
    one.pending, group.pending = {10: 0}, {2: 0}
    # those for the thread come first
    assert (one.next(), two.next()) == (10, 2)
    one.blocked = 1 << 9
    assert one.next() == 2
    # those that come from what the thread did itself come before all
    one.pending[11] = 0
    assert one.next() == 11
    two.blocked = 1 << 1
    assert not two.waiting
    assert one.waiting
    group.exit_code = 9
    assert two.waiting
