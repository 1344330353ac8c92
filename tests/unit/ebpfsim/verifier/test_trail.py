"""Logs of Linux 6.18 read back; the texts are what it printed, addresses of lines included."""

import pytest

from ebpfsim.verifier.trail import read_trail

# log level 1 of a program that reads past what it checked
LEVEL1 = """\
0: R1=ctx() R10=fp0
; void *data = (void *)(long)ctx->data; @ m.bpf.c:17
0: (b4) w0 = 1                        ; R0=1
1: (61) r2 = *(u32 *)(r1 +4)          ; R1=ctx() R2=pkt_end()
2: (61) r1 = *(u32 *)(r1 +0)          ; R1=pkt(r=0)
; if (data + sizeof(*e) > end) @ m.bpf.c:19
3: (bf) r3 = r1                       ; R1=pkt(r=0) R3=pkt(r=0)
4: (07) r3 += 14                      ; R3=pkt(off=14,r=0)
5: (2d) if r3 > r2 goto pc+3          ; R2=pkt_end() R3=pkt(off=14,r=14)
; return ip->protocol == 6; @ m.bpf.c:21
6: (71) r1 = *(u8 *)(r1 +23)
invalid access to packet, off=23 size=1, R1(id=0,off=23,r=14)
R1 offset is outside of the packet
processed 7 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_steps_places_and_messages() -> None:
    trail = read_trail(LEVEL1)
    assert [step.idx for step in trail.steps] == [-1, 0, 1, 2, 3, 4, 5, 6]
    assert trail.last is not None
    assert (str(trail.last.place), trail.last.place.source) == ("m.bpf.c:21", "return ip->protocol == 6;")
    assert trail.messages == [
        "invalid access to packet, off=23 size=1, R1(id=0,off=23,r=14)",
        "R1 offset is outside of the packet",
    ]


def test_branches_with_the_way_they_went() -> None:
    (branch,) = read_trail(LEVEL1).decisions()
    assert (branch.idx, branch.condition, branch.taken) == (5, "r3 > r2", False)


@pytest.mark.parametrize(
    ("regno", "history"),
    [
        (1, [(2, "loaded", "pkt(r=0)")]),
        (3, [(2, "loaded", "pkt(r=0)"), (3, "copied", "pkt(r=0)"), (4, "changed", "pkt(off=14,r=0)")]),
    ],
)
def test_history_of_a_register(regno: int, history: list[tuple[int, str, str]]) -> None:
    found = read_trail(LEVEL1).history(regno)
    assert [(each.step.idx, each.what, each.value) for each in found] == history


def test_values_before_the_last_step() -> None:
    trail = read_trail(LEVEL1)
    assert trail.value("R1") == "pkt(r=0)"
    assert trail.value("R1", 2) == "ctx()"
    assert trail.value("R7") == ""


# level 2 has all paths: the one that failed leaves the other at the branch
LEVEL2 = """\
0: R1=ctx() R10=fp0
0: (85) call bpf_get_prandom_u32#7    ; R0_w=scalar()
1: (15) if r0 == 0x0 goto pc+2        ; R0_w=scalar(umin=1)
2: (b7) r0 = 1                        ; R0_w=1
3: (95) exit

from 1 to 4: R0=0 R10=fp0
4: (79) r0 = *(u64 *)(r2 +0)
R2 !read_ok
processed 5 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
"""


def test_level_2_is_cut_back_to_the_path() -> None:
    trail = read_trail(LEVEL2)
    assert [step.idx for step in trail.steps] == [-1, 0, 1, 4]
    assert [(step.idx, step.taken) for step in trail.decisions()] == [(1, True)]
    assert trail.messages == ["R2 !read_ok"]


def test_values_that_go_over_the_stack() -> None:
    log = """\
0: (85) call bpf_get_prandom_u32#7    ; R0=scalar()
1: (7b) *(u64 *)(r10 -8) = r0         ; R0=scalar(id=1) R10=fp0 fp-8=scalar(id=1)
2: (85) call bpf_ktime_get_ns#5       ; R0=scalar()
3: (79) r3 = *(u64 *)(r10 -8)         ; R3=scalar(id=1) R10=fp0 fp-8=scalar(id=1)
4: (79) r0 = *(u64 *)(r3 +0)
R3 invalid mem access 'scalar'
"""
    found = read_trail(log).history(3)
    assert [each.what for each in found] == ["result of bpf_get_prandom_u32", "kept on the stack", "from the stack"]


def test_an_empty_log_has_no_path() -> None:
    trail = read_trail("")
    assert (trail.steps, trail.messages, trail.last) == ([], [], None)
