"""Programs on what sockets of a map send and receive: what Linux 6.18 did with the same bytes."""

from typing import Any

import pytest
import sockmap_worlds

from ebpfsim import Simulation

COUNT = """
    r6 = r1; *(u32 *)(r10 - 4) = {index}; r2 = r10; r2 += -4; r1 = map_fd[{{counter}}] ll
    call bpf_map_lookup_elem; if r0 == 0 goto out_{index}; r1 = {value}; r2 = *(u64 *)(r0 + 0); r2 += r1
    *(u64 *)(r0 + 0) = r2; out_{index}: r1 = r6
"""


def count(index: int, value: str = "1") -> str:
    """Add to a counter; the context stays in r1 and r6."""
    return COUNT.format(index=index, value=value)


PASS, DROP = "r0 = 1; exit", "r0 = 0; exit"
RUNS = count(0)
TO = "r1 = r6; r2 = map_fd[{{map}}] ll; r3 = {key}; r4 = {flags}; call bpf_{kind}_redirect_map; exit"


def redirect(kind: str, key: int, flags: int = 0) -> str:
    """Send to the end at an index."""
    return RUNS + TO.format(kind=kind, key=key, flags=flags)


def case(members: str, actions: list[tuple[Any, ...]], **programs: str) -> dict[str, Any]:
    """Return a case."""
    return {"members": members, "actions": actions, "programs": programs}


HELLO = [("send", "a", b"hello"), ("recv", "A"), ("recv", "A"), ("recv", "B"), ("recv", "a"), ("recv", "b")]
BOTH = [("send", "a", b"hello"), ("recv", "A"), ("send", "a", b"world!"), ("recv", "A"), ("recv", "A")]
FIRST_BYTE = """
    r7 = *(u64 *)(r6 + 0); r8 = *(u64 *)(r6 + 8); r9 = r7; r9 += 1; if r9 > r8 goto none
    r2 = *(u8 *)(r7 + 0); goto have; none: r2 = 1000; have:
"""
SEEN = count(1, "*(u32 *)(r6 + 68)") + count(2, "*(u32 *)(r6 + 64)")
CASES = {
    "nothing": case("a", HELLO),
    "pass": case("a", BOTH, msg=RUNS + PASS),
    "drop": case("a", BOTH, msg=RUNS + DROP),
    "other ends are not asked": case("b", BOTH, msg=RUNS + DROP),
    "size": case("a", BOTH, msg=RUNS + count(1, "*(u32 *)(r6 + 68)") + PASS),
    "apply 2 of 5": case("a", BOTH, msg=RUNS + "r2 = 2; call bpf_msg_apply_bytes; r0 = 1; exit"),
    "apply 100": case("a", BOTH, msg=RUNS + "r2 = 100; call bpf_msg_apply_bytes; r0 = 1; exit"),
    "apply and drop 2": case("a", BOTH, msg=RUNS + "r2 = 2; call bpf_msg_apply_bytes; r0 = 0; exit"),
    "cork 8": case("a", BOTH, msg=RUNS + "r2 = 8; call bpf_msg_cork_bytes; r0 = 1; exit"),
    "cork 5": case("a", BOTH, msg=RUNS + "r2 = 5; call bpf_msg_cork_bytes; r0 = 1; exit"),
    "cork 11": case("a", BOTH, msg=RUNS + "r2 = 11; call bpf_msg_cork_bytes; r0 = 1; exit"),
    "cork and drop": case("a", BOTH, msg=RUNS + "r2 = 8; call bpf_msg_cork_bytes; r0 = 0; exit"),
    "push at the front": case("a", BOTH, msg=RUNS + "r2 = 0; r3 = 3; r4 = 0; call bpf_msg_push_data; r0 = 1; exit"),
    "pop": case("a", BOTH, msg=RUNS + "r2 = 1; r3 = 3; r4 = 0; call bpf_msg_pop_data; r0 = 1; exit"),
    "pop all": case("a", BOTH, msg=RUNS + "r2 = 0; r3 = 5; r4 = 0; call bpf_msg_pop_data; r0 = 1; exit"),
    "pop and drop": case("a", BOTH, msg=RUNS + "r2 = 1; r3 = 3; r4 = 0; call bpf_msg_pop_data; r0 = 0; exit"),
    "out by another": case("ab", HELLO, msg=redirect("msg", 1)),
    "to the reader of another": case("ab", HELLO, msg=redirect("msg", 1, 1)),
    "to one's own reader": case("ab", HELLO, msg=redirect("msg", 0, 1)),
    "to nobody": case("ab", HELLO, msg=redirect("msg", 3)),
    "wrong flags": case("ab", HELLO, msg=redirect("msg", 1, 2)),
    "two of five by another": case("ab", HELLO, msg=RUNS + "r2 = 2; call bpf_msg_apply_bytes;" + TO.format(
        kind="msg", key=1, flags=0)),
    "cork, then by another": case("ab", [("send", "a", b"hello"), ("send", "a", b"world!"), ("recv", "B")],
        msg=RUNS + "r2 = 8; call bpf_msg_cork_bytes;" + TO.format(kind="msg", key=1, flags=0)),
    "verdict passes": case("A", BOTH, verdict=RUNS + PASS),
    "verdict drops": case("A", BOTH, verdict=RUNS + DROP),
    "verdict by another": case("Ab", HELLO, verdict=redirect("sk", 1)),
    "verdict to the reader of another": case("Ab", HELLO, verdict=redirect("sk", 1, 1)),
    "verdict to nobody": case("Ab", HELLO, verdict=redirect("sk", 3)),
    "verdict and the end": case("A", [("send", "a", b"hello"), ("shut", "a"), ("recv", "A"), ("recv", "A")],
        verdict=RUNS + PASS),
    "stream verdict without a parser": case("A", BOTH, stream=RUNS + PASS),
    "length of what came": case("A", BOTH, verdict=RUNS + count(1, "*(u32 *)(r6 + 0)") + PASS),
    "a parser alone": case("A", BOTH, parser=RUNS + "r0 = *(u32 *)(r6 + 0); exit"),
    "parser of all": case("A", BOTH, parser=RUNS + "r0 = *(u32 *)(r6 + 0); exit", stream=count(1) + PASS),
    "messages of three": case("A", BOTH, parser=RUNS + "r0 = 3; exit",
        stream=count(1) + count(2, "*(u32 *)(r6 + 0)") + PASS),
    "more is needed": case("A", BOTH, parser=RUNS + "r0 = *(u32 *)(r6 + 0); if r0 > 6 goto +1; r0 = 0; exit",
        stream=count(1) + PASS),
    "parser drops": case("A", BOTH, parser="r0 = 3; exit", stream=count(1) + DROP),
    "left again": case("a", [("send", "a", b"x"), ("leave", 0), ("send", "a", b"hello"), ("recv", "A")],
        msg=RUNS + DROP),
    "joined twice": case("aa", HELLO, msg=RUNS + PASS),
    "ports": case("a", [("send", "a", b"x"), ("recv", "A")], msg="r1 = *(u32 *)(r1 + 16); r0 = 0; if r1 == 2 goto +1; "
        "exit; r0 = 1; exit"),
    "the other's program is asked, too": case("Ab", [("send", "a", b"hello"), ("recv", "b"), ("send", "b", b"x"),
        ("recv", "B")], msg=RUNS + DROP, verdict=redirect("sk", 1)),
    "data that is shown": case("a", BOTH, msg=RUNS + "r1 = r6; r2 = 1; r3 = 4; r4 = 0; call bpf_msg_pull_data;"
        "r7 = *(u64 *)(r6 + 0); r9 = *(u64 *)(r6 + 8); r9 -= r7; r1 = r6;" + count(2, "r9") + PASS),
    "pull past the end": case("a", BOTH, msg=RUNS + "r2 = 1; r3 = 40; r4 = 0; call bpf_msg_pull_data; r9 = r0; r1 = r6;"
        + count(2, "r9") + PASS),
    "what is shown after a push": case("a", BOTH, msg=RUNS + "r2 = 2; r3 = 4; r4 = 0; call bpf_msg_push_data;"
        "r7 = *(u64 *)(r6 + 0); r9 = *(u64 *)(r6 + 8); r9 -= r7; r1 = r6;" + count(2, "r9") + "r0 = 0; exit"),
    "push behind the end": case("a", BOTH, msg=RUNS + "r2 = 50; r3 = 4; r4 = 0; call bpf_msg_push_data;"
        "r9 = r0; r1 = r6;" + count(2, "r9") + PASS),
}  # fmt: skip
# what Linux 6.18 said: whether the ends joined, the actions, counters 0 to 3
LINUX: dict[str, list[Any]] = {
    "nothing": ["ok", 5, b"hello", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", [0, 0, 0, 0]],
    "pass": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 0, 0]],
    "drop": ["ok", "EACCES", "EAGAIN", "EACCES", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "other ends are not asked": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [0, 0, 0, 0]],
    "size": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 11, 0, 0]],
    "apply 2 of 5": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [6, 0, 0, 0]],
    "apply 100": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [1, 0, 0, 0]],
    "apply and drop 2": ["ok", 3, "EAGAIN", "EACCES", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "cork 8": ["ok", 5, "EAGAIN", 6, b"helloworld!", "EAGAIN", [2, 0, 0, 0]],
    "cork 5": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 0, 0]],
    "cork 11": ["ok", 5, "EAGAIN", 6, b"helloworld!", "EAGAIN", [2, 0, 0, 0]],
    "cork and drop": ["ok", 5, "EAGAIN", "EACCES", "EAGAIN", "EAGAIN", [2, 0, 0, 0]],
    "push at the front": ["ok", 5, b"\x00\x00\x00hello", 6, b"\x00\x00\x00world!", "EAGAIN", [2, 0, 0, 0]],
    "pop": ["ok", 5, b"ho", 6, b"wd!", "EAGAIN", [2, 0, 0, 0]],
    "pop all": ["ok", 5, "EAGAIN", 6, b"!", "EAGAIN", [2, 0, 0, 0]],
    "pop and drop": ["ok", "EACCES", "EAGAIN", "EACCES", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "out by another": ["ok", "ok", 5, "EAGAIN", "EAGAIN", b"hello", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "to the reader of another": ["ok", "ok", 5, "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", b"hello", [1, 0, 0, 0]],
    "to one's own reader": ["ok", "ok", 5, "EAGAIN", "EAGAIN", "EAGAIN", b"hello", "EAGAIN", [1, 0, 0, 0]],
    "to nobody": ["ok", "ok", "EACCES", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "wrong flags": ["ok", "ok", "EACCES", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "two of five by another": ["ok", "ok", 5, "EAGAIN", "EAGAIN", b"hello", "EAGAIN", "EAGAIN", [3, 0, 0, 0]],
    "cork, then by another": ["ok", "ok", 5, 6, b"helloworld!", [2, 0, 0, 0]],
    "verdict passes": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 0, 0]],
    "verdict drops": ["ok", 5, "EAGAIN", 6, "EAGAIN", "EAGAIN", [2, 0, 0, 0]],
    "verdict by another": ["ok", "ok", 5, "EAGAIN", "EAGAIN", b"hello", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "verdict to the reader of another": ["ok", "ok", 5, "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", b"hello", [1, 0, 0, 0]],
    "verdict to nobody": ["ok", "ok", 5, "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "verdict and the end": ["ok", 5, "ok", b"hello", b"", [2, 0, 0, 0]],
    "stream verdict without a parser": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 0, 0]],
    "length of what came": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 11, 0, 0]],
    "a parser alone": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [0, 0, 0, 0]],
    "parser of all": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 2, 0, 0]],
    "messages of three": ["ok", 5, b"hel", 6, b"loworl", "EAGAIN", [4, 3, 22, 0]],
    "more is needed": ["ok", 5, "EAGAIN", 6, b"helloworld!", "EAGAIN", [2, 1, 0, 0]],
    "parser drops": ["ok", 5, "EAGAIN", 6, "EAGAIN", "EAGAIN", [0, 3, 0, 0]],
    "left again": ["ok", "EACCES", "ok", 5, b"hello", [1, 0, 0, 0]],
    "joined twice": ["ok", "EBUSY", 5, b"hello", "EAGAIN", "EAGAIN", "EAGAIN", "EAGAIN", [1, 0, 0, 0]],
    "ports": ["ok", 1, b"x", [0, 0, 0, 0]],
    "the other's program is asked, too": ["ok", "ok", 5, "EACCES", "EACCES", "EAGAIN", [2, 0, 0, 0]],
    "data that is shown": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 6, 0]],
    "pull past the end": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 18446744073709551572, 0]],
    "what is shown after a push": ["ok", "EACCES", "EAGAIN", "EACCES", "EAGAIN", "EAGAIN", [1, 0, 2, 0]],
    "push behind the end": ["ok", 5, b"hello", 6, b"world!", "EAGAIN", [2, 0, 18446744073709551572, 0]],
}


@pytest.mark.parametrize("name", CASES)
def test_bytes_go_where_linux_lets_them(name: str) -> None:
    world = sockmap_worlds.Simulated(Simulation(seed=1).host("h"))
    assert sockmap_worlds.play(world, CASES[name]) == LINUX[name]


@pytest.mark.live
@pytest.mark.slow
def test_answers_are_those_of_this_kernel() -> None:
    said = {name: sockmap_worlds.play(sockmap_worlds.Live(), each) for name, each in CASES.items()}
    assert said == LINUX
