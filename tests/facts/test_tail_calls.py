"""Facts about tail calls, observed on Linux 6.18 and asked of both engines and of the kernel of this machine."""

import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
from verified_programs import Program, btf

from ebpfsim.errors import VerifierError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, MapType, ProgType

P = ProgType
FRAME = bytes.fromhex("020000000002020000000001080045000032000100004011667c0a0000010a000002") + bytes(30)
COUNT = "r1 = map_value[{hits}]+0 ll; r2 = *(u64 *)(r1 + 0); r2 += 1; *(u64 *)(r1 + 0) = r2;"
CALL = "r1 = r6; r2 = map_fd[{array}] ll; r3 = {index}; call bpf_tail_call;"


@pytest.fixture(params=["interp", "jit", pytest.param("live", marks=pytest.mark.live)])
def bpf(request: pytest.FixtureRequest, make_kernel: Callable[..., Any]) -> Any:
    """bpf(2): simulated with each of its engines, and live."""
    if request.param == "live":
        return request.getfixturevalue("live_bpf")
    return make_kernel(engine=request.param).bpf


class Lab:
    """Maps and programs of a kernel: ``array`` for the programs, ``hits`` counts what COUNT counts."""

    def __init__(self, bpf: Any) -> None:
        self.bpf = bpf
        self.array = bpf.map_create(MapType.PROG_ARRAY, 4, 4, 40)
        self.hits = bpf.map_create(MapType.ARRAY, 4, 8, 1)

    def load(self, text: str, prog_type: P = P.XDP, *, slot: int | None = None, **options: Any) -> int:
        insns = assemble(text.replace("{array}", str(self.array)).replace("{hits}", str(self.hits)))
        fd: int = self.bpf.prog_load(prog_type, encode(insns), **options).fd
        if slot is not None:
            self.put(slot, fd)
        return fd

    def with_functions(self, text: str, starts: tuple[int, ...]) -> int:
        options = {"prog_btf_fd": self.bpf.btf_load(btf()), "func_info": Program((), starts).func_info}
        return self.load(text, **options)

    def put(self, slot: int, fd: int, **options: Any) -> None:
        self.bpf.map_update_elem(self.array, struct.pack("<I", slot), struct.pack("<I", fd), **options)

    def run(self, fd: int) -> int:
        result: int = self.bpf.prog_test_run(fd, FRAME).retval
        return result

    def counted(self) -> int:
        return int.from_bytes(self.bpf.map_lookup_elem(self.hits, bytes(4)), "little")


@pytest.fixture
def lab(bpf: Any) -> Lab:
    return Lab(bpf)


def itself(index: str) -> str:
    return f"r6 = r1; {COUNT} {CALL.replace('{index}', index)} r0 = 1; exit"


@pytest.mark.parametrize("prog_type", [P.XDP, P.SCHED_CLS, P.SOCKET_FILTER], ids=str)
def test_a_self_loop_executes_34_times(lab: Lab, prog_type: P) -> None:
    fd = lab.load(itself("0"), prog_type, slot=0)
    assert lab.run(fd) == 1
    assert lab.counted() == 34


@pytest.mark.parametrize("other", ["0", "1"])
def test_a_and_b_34_in_all_the_last_is_b(lab: Lab, other: str) -> None:
    text = "r6 = r1; {count} {call} r0 = {number}; exit"
    for number in (0, 1):
        call = CALL.replace("{index}", str(1 - number))
        lab.load(text.format(count=COUNT, call=call, number=10 + number), slot=number)
    first = lab.load(text.format(count="", call=CALL.replace("{index}", other), number=12))
    # the first one makes the first of 33 calls
    assert lab.run(first) == (10 if other == "0" else 11)
    assert lab.counted() == 33


def test_a_callees_result_returns_to_the_caller_of_the_subprogram(lab: Lab) -> None:
    lab.load("r0 = 5; exit", slot=3)
    call = CALL.replace("{index}", "3")
    # the function goes on in the other program, whose 5 comes back to its caller
    fd = lab.with_functions(f"call f; r0 += 10; exit; f: r6 = r1; {call} r0 = 1; exit", (3,))
    assert lab.run(fd) == 15
    lab.bpf.map_delete_elem(lab.array, struct.pack("<I", 3))
    assert lab.run(fd) == 11


def test_after_a_missed_tail_call_r0_is_unreadable(lab: Lab, refused: Callable[..., str]) -> None:
    call = CALL.replace("{index}", "3")
    with pytest.raises(VerifierError) as error:
        lab.load(f"r6 = r1; {call} exit", log_level=1)
    assert "R0 !read_ok" in error.value.log
    assert refused(lab.load, f"r6 = r1; {call} exit") == "EACCES"


def test_240_bytes_of_the_callers_stack_load_248_eacces(lab: Lab, refused: Callable[..., str]) -> None:
    def text(size: int) -> str:
        call = CALL.replace("{index}", "3")
        return f"*(u64 *)(r10 - {size}) = 0; call f; exit; f: r6 = r1; {call} r0 = 1; exit"

    assert lab.run(lab.with_functions(text(240), (3,))) == 1
    with pytest.raises(VerifierError) as error:
        lab.with_functions(text(248), (3,))
    assert error.value.errno_name == "EACCES"
    assert "tail_calls are not allowed when call stack of previous frames is 256 bytes. Too large" in error.value.log


def test_in_a_subprogram_without_btf_einval(lab: Lab) -> None:
    call = CALL.replace("{index}", "3")
    with pytest.raises(VerifierError) as error:
        lab.load(f"call f; exit; f: r6 = r1; {call} r0 = 1; exit")
    assert error.value.errno_name == "EINVAL"
    assert "tail_call is not allowed in subprogs without BTF" in error.value.log


def test_arrays_flags_einval_index_past_the_end_e2big_empty_enoent(lab: Lab, refused: Callable[..., str]) -> None:
    fd = lab.load("r0 = 2; exit")
    assert refused(lab.put, 0, fd, flags=1) == refused(lab.put, 0, fd, flags=2) == "EINVAL"
    assert refused(lab.put, 40, fd) == "E2BIG"
    assert refused(lab.bpf.map_delete_elem, lab.array, bytes(4)) == "ENOENT"


def test_look_up_returns_the_id(lab: Lab) -> None:
    fd = lab.load("r0 = 2; exit", slot=0)
    found = lab.bpf.map_lookup_elem(lab.array, bytes(4))
    assert int.from_bytes(found, "little") == lab.bpf.obj_get_info_by_fd(fd).id != fd


def test_another_type_attach_type_or_frags_than_the_owners_einval(lab: Lab, refused: Callable[..., str]) -> None:
    lab.load("r0 = 2; exit", slot=0)
    others: list[dict[str, Any]] = [
        {"prog_type": P.SCHED_CLS},
        {"expected_attach_type": AttachType.XDP_DEVMAP},
        {"prog_flags": f.BPF_F_XDP_HAS_FRAGS},
    ]
    for options in others:
        fd = lab.load("r0 = 2; exit", **options)
        assert refused(lab.put, 1, fd) == "EINVAL", options


def test_a_program_that_uses_a_foreign_array_einval_with_an_empty_log(lab: Lab) -> None:
    lab.load("r0 = 2; exit", slot=0)
    with pytest.raises(Exception, match="EINVAL") as error:
        lab.load(itself("0"), P.SCHED_CLS, log_level=1)
    assert "tail" not in getattr(error.value, "log", "")


def test_the_last_descriptor_of_user_space_empties_the_array(lab: Lab) -> None:
    lab.load("r0 = 5; exit", slot=0)
    fd = lab.load(itself("0"))
    assert lab.run(fd) == 5
    lab.bpf.close(lab.array)
    # the program holds it still, but there is nothing in it
    assert lab.run(fd) == 1


def swapped(lab: Lab, index: str) -> tuple[int, list[int]]:
    """A program that goes on in slot 0, and two for there: they say who they are twice, with a helper in between."""
    who = "r6 = {0}; call bpf_ktime_get_ns; r7 = {0}; r0 = 3; if r6 != r7 goto +1; r0 = r6; exit"
    programs = [lab.load(who.format(number)) for number in (1, 2)]
    lab.put(0, programs[0])
    call = CALL.replace("{index}", index)
    # a miss is counted
    return lab.load(f"r6 = r1; r7 = *(u32 *)(r1 + 16); r7 &= 0; {call} {COUNT} r0 = 9; exit"), programs


@pytest.mark.parametrize("index", ["0", "r7"])
def test_swapping_two_entries_between_20000_runs(lab: Lab, index: str) -> None:
    fd, programs = swapped(lab, index)
    for number in range(40):
        lab.put(0, programs[number % 2])
        assert lab.bpf.prog_test_run(fd, FRAME, repeat=500).retval == 1 + number % 2
    assert lab.counted() == 0


# in a simulated kernel nothing else runs beside a run; from within one: test_tail_call.py and test_batch.py of the JIT
@pytest.mark.parametrize("index", ["0", "r7"])
@pytest.mark.parametrize("bpf", [pytest.param("live", marks=pytest.mark.live)], indirect=True)
def test_swapping_two_entries_under_20000_runs_never_a_miss_never_a_mix(lab: Lab, index: str) -> None:
    fd, programs = swapped(lab, index)
    results = []
    stop = threading.Event()

    def runs() -> None:
        for _ in range(40):
            results.append(lab.bpf.prog_test_run(fd, FRAME, repeat=500).retval)
        stop.set()

    thread = threading.Thread(target=runs)
    thread.start()
    swaps = 0
    while not stop.is_set():
        swaps += 1
        lab.put(0, programs[swaps % 2])
    thread.join()
    assert len(results) == 40
    assert set(results) <= {1, 2}
    assert lab.counted() == 0
    assert swaps > 2
