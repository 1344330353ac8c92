"""Functions, tracepoints and security hooks of sockets, in the order that Linux 6.12 was recorded to have."""

import difflib
from functools import cache

import more_socket_walks
import pytest
from net_paths import NetPaths, events, functions
from recordings import known, trees
from socket_walks import SCENARIOS, walked

# of which the calls are the recorded ones but for what is said here
EXACT = tuple(name for name in SCENARIOS if not name.startswith("tcp_"))
# what belonged to somebody else when it was recorded: a tap in another namespace, a filter at the receiver
OTHERS = {"packet_socket_send_tap": ("sk_skb_reason_drop", "migrate_disable", "migrate_enable")}
# softirqs that run when a socket is unlocked, of which functions that are called are left out
TAIL = ("__do_softirq", "handle_softirqs")
# the least of common order, in percent: connections over loopback, recorded between namespaces
LEAST = {
    "tcp_socket": 98, "tcp_bind": 75, "tcp_listen": 90, "tcp_connect_3whs": 60, "tcp_connect_refused": 65,
    "tcp_accept": 95, "tcp_send_data": 70, "tcp_recv_data": 70, "tcp_shutdown_wr": 75, "tcp_sockopts": 90,
    "tcp_recv_eof": 85, "tcp_close_active_fin": 80,
}  # fmt: skip
# how much of the recordings the model has, in percent
FUNCTIONS, HOOKS, TRACEPOINTS = 60, 90, 90
# tracepoints that are no part of what a call does: the scheduler's, and netlink's packets
QUIET = ("sched_", "rcu_", "timer_", "hrtimer_", "irq_", "softirq_", "workqueue_", "kmem_", "sys_")


@cache
def walk(name: str) -> NetPaths:
    return walked(name)


def compared(name: str) -> tuple[list[str], list[str]]:
    start = next(each for each in trees()[name] if each.startswith("__x64_sys"))
    ours, recorded = functions(walk(name), name, start)
    dropped = OTHERS.get(name, ())
    if dropped:
        second = [at for at, each in enumerate(recorded) if each == "packet_rcv"][1]
        del recorded[second]
    recorded = [each for each in recorded if each not in dropped]
    while recorded[-1] in TAIL:
        recorded.pop()
    return ours, recorded


@pytest.mark.parametrize("name", EXACT)
def test_functions_and_hooks_come_in_the_recorded_order(name: str) -> None:
    ours, recorded = compared(name)
    assert ours == recorded, "\n".join(difflib.unified_diff(recorded, ours, "Linux", "ebpfsim", lineterm="", n=2))


@pytest.mark.parametrize("name", EXACT)
def test_tracepoints_come_in_the_recorded_order(name: str) -> None:
    ours = [each for each, _ in walk(name).events]
    asked = {*ours, "kfree_skb", "consume_skb", "sk_data_ready", "sock_send_length", "sock_recv_length"}
    recorded = [each for each, text in events(name) if each in asked and "netlink" not in text]
    # the call of a tap in another namespace
    recorded = [each for each in recorded if not (name in OTHERS and each == "kfree_skb")]
    assert ours == recorded


@pytest.mark.parametrize("name", LEAST)
def test_most_of_what_connections_do_comes_in_the_recorded_order(name: str) -> None:
    ours, recorded = compared(name)
    blocks = difflib.SequenceMatcher(None, recorded, ours, autojunk=False).get_matching_blocks()
    common = 200 * sum(block.size for block in blocks) // (len(ours) + len(recorded))
    print(f"{name}: {common} % of {len(recorded)} functions in common order")
    assert common >= LEAST[name]


def test_how_much_of_the_recordings_is_there() -> None:
    kernel = walk("unix_accept").kernel
    have = set(kernel.functions.names())
    names = {each for name in SCENARIOS for each in trees()[name]} & known()
    hooks = {each for each in names if each.startswith("security_")}
    there = 100 * len((names - hooks) & have) // len(names - hooks)
    asked = 100 * sum(hasattr(kernel.functions, each) for each in hooks) // len(hooks)
    fired = {each for name in SCENARIOS for each, _ in events(name) if not each.startswith(QUIET)}
    seen = 100 * len(fired & set(kernel.tracepoints.fired)) // len(fired)
    print(
        f"{there} % of {len(names - hooks)} functions, {asked} % of {len(hooks)} hooks, {seen} % of {len(fired)} events"
    )
    print("events that are missing:", *sorted(fired - set(kernel.tracepoints.fired)))
    assert (there >= FUNCTIONS, asked >= HOOKS, seen >= TRACEPOINTS) == (True, True, True)


@pytest.mark.parametrize("family", more_socket_walks.FAMILIES)
def test_walks_that_were_recorded_later_are_those_of_linux(family: str) -> None:
    paths, walks = more_socket_walks.walked(family)
    wrong = {}
    for name in walks.keys() & more_socket_walks.recorded().keys():
        ours, recorded = more_socket_walks.common(paths, name, walks[name])
        if ours != recorded:
            wrong[name] = [line for line in difflib.ndiff(recorded, ours) if line[0] in "+-"]
    assert not wrong
    assert len(walks) >= 13
