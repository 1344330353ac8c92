"""When a state is as good as an earlier one: what Linux 6.18 prints of such walks (log level 2)."""

import pytest

from ebpfsim import Simulation
from ebpfsim.errnos import Errno
from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.progs.regtypes import NOT_INIT, PTR_TO_PACKET, PTR_TO_STACK
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.bounds import UNBOUNDED, known
from ebpfsim.verifier.compare import EXACT, NOT_EXACT, RANGE_WITHIN, IdMap, regsafe
from ebpfsim.verifier.env import Env, LoadAttr
from ebpfsim.verifier.state import BPF_ADD_CONST64, Reg, known_scalar, pointer, scalar


def log(text: str) -> str:
    bpf = Simulation(seed=1).host("h").bpf
    return bpf.prog_load(ProgType.XDP, encode(assemble(text)), log_level=2).log


def test_within_loops_slots_hold_the_same_kinds_of_data() -> None:
    text = "*(u64 *)(r10 - 16) = 0; call bpf_ktime_get_ns; again: may_goto out; *(u64 *)(r10 - 8) = 255; goto again;"
    tail = "processed 13 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3 mark_read 0"
    assert log(f"{text} out: r0 = 0; exit").splitlines()[-1] == tail


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("r0 = 0; again: goto again", ["cur state: R0=0 R1=ctx() R10=fp0", "old state: R0=0 R1=ctx() R10=fp0"]),
        (
            "r1 = 0; again: if r1 == 0 goto again; r0 = 0; exit",
            ["cur state: R1=0 R10=fp0", "old state: R1=P0 R10=fp0"],
        ),
    ],
)
def test_loop_without_end(text: str, states: list[str]) -> None:
    with pytest.raises(VerifierError) as error:
        log(text)
    assert error.value.errno == Errno.EINVAL
    lines = error.value.log.splitlines()
    assert lines[-4:-1] == ["infinite loop detected at insn 1", *states]
    assert lines[-1].startswith("processed 9 insns")


# nothing is asked of the kernel by comparing
ENV = Env(LoadAttr(ProgType.XDP, ()), None)  # type: ignore[arg-type]


def safe(old: Reg, cur: Reg, exact: int = NOT_EXACT) -> bool:
    return regsafe(ENV, old, cur, IdMap(100), exact)


def packet(reach: int) -> Reg:
    return pointer(PTR_TO_PACKET, reach)


def test_what_was_not_needed_is_not_compared() -> None:
    assert safe(known_scalar(1), known_scalar(2))
    assert not safe(known_scalar(1).with_precise(True), known_scalar(2))
    assert not safe(known_scalar(1), known_scalar(2), EXACT)
    assert safe(Reg(NOT_INIT, UNBOUNDED), known_scalar(2))


def test_wider_ranges_are_safe() -> None:
    wide = scalar(UNBOUNDED).with_precise(True)
    assert safe(wide, known_scalar(2))
    assert safe(wide, known_scalar(2), RANGE_WITHIN)
    assert not safe(scalar(known(2)).with_precise(True), scalar(UNBOUNDED))


def test_packet_that_reaches_further_is_safe() -> None:
    assert safe(packet(8), packet(14))
    assert not safe(packet(14), packet(8))


def test_pointers_to_different_frames_differ() -> None:
    other = pointer(PTR_TO_STACK)
    other.frameno = 1
    assert safe(pointer(PTR_TO_STACK), pointer(PTR_TO_STACK))
    assert not safe(pointer(PTR_TO_STACK), other)


def test_ids_stand_for_each_other_throughout() -> None:
    ids = IdMap(100)
    assert ids.check_ids(1, 7)
    assert ids.check_ids(1, 7)
    assert not ids.check_ids(1, 8)
    assert not ids.check_ids(2, 7)
    assert not ids.check_ids(0, 9)
    assert ids.check_scalar_ids(0, 9)
    assert ids.check_scalar_ids(3, 0)


def test_numbers_at_a_distance_share_their_link() -> None:
    """R0 = R7 - 8 is no model for numbers that have nothing to do with each other (Linux 6.18, a random program)."""
    base, other = (scalar(UNBOUNDED).with_precise(True) for _ in range(2))
    base.id = 4
    other.id, other.off = 4 | BPF_ADD_CONST64, -8
    near, far = scalar(UNBOUNDED), scalar(UNBOUNDED)
    near.id, near.off = 1 | BPF_ADD_CONST64, -8
    ids = IdMap(100)
    assert regsafe(ENV, other, near, ids, NOT_EXACT)
    assert not regsafe(ENV, base, far, ids, NOT_EXACT)
    far.id = 1
    assert regsafe(ENV, base, far, ids, NOT_EXACT)
