"""Images: the slots of faults, the numbers by which machine code knows programs, and their end."""

import gc
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.errors import KernelOops
from ebpfsim.jit import layout
from ebpfsim.jit.compile import compile_image
from ebpfsim.jit.program import Image, prog_of


def test_images_have_numbers_of_their_own(machine: Any) -> None:
    progs = [machine.prog("r0 = 1; exit") for _ in range(3)]
    images = [compile_image(prog, machine, checked=True) for prog in progs]
    assert len({image.number for image in images}) == 3
    assert [prog_of(image.number) for image in images] == progs


def test_a_number_is_forgotten_with_its_program(machine: Any) -> None:
    prog = machine.prog("r0 = 1; exit")
    number = compile_image(prog, machine, checked=True).number
    del prog
    gc.collect()
    with pytest.raises(KeyError):
        prog_of(number)


def test_places_are_behind_what_faults(machine: Any) -> None:
    image = Image(machine.prog("r0 = 1; exit"), machine)
    image.address = 0x1000
    image.starts, image.slots = [0, 16, 20, 40], [0, 3, 4, 7]
    # a call of five bytes at 16 returns to 21, one that ends at 40 belongs to what is in front
    assert [image.slot_at(0x1000 + pc) for pc in (5, 16, 17, 20, 21, 40, 41, 99)] == [0, 0, 3, 3, 4, 4, 7, 7]
    image.address = 0  # nothing of it was placed


@pytest.mark.parametrize("slot", range(2, 9))
def test_every_access_has_its_slot(jit: Callable[..., Any], slot: int) -> None:
    # all loads are good but one, whose base is 0
    bases = ["r0" if number == slot else "r1" for number in range(2, 9)]
    loads = [f"r{2 + number} = *(u{8 << number % 4} *)({base} - {8 * number + 8})" for number, base in enumerate(bases)]
    with pytest.raises(KernelOops) as error:
        jit(f"r0 = 0; r1 = r10; {'; '.join(loads)}; exit")
    assert error.value.insn_idx == slot


def test_careful_code_is_made_once_and_has_the_number(machine: Any) -> None:
    prog = machine.prog("r0 = 9; l: r0 -= 1; if r0 != 0 goto l; exit")
    image = compile_image(prog, machine, checked=False)
    careful = image.careful
    assert image.careful is careful
    assert (careful.number, prog_of(careful.number)) == (image.number, prog)
    assert set(careful.blocks) == {0, 1, 3}
    assert not image.blocks
    # a fault in the careful code is one of the program
    assert image.slot_at(careful.blocks[1] + 1) == careful.slot_at(careful.blocks[1] + 1)


def test_a_function_without_r10_gets_it_from_the_record(machine: Any) -> None:
    image = Image(machine.prog("r0 = 1; exit"), machine)
    image.frames, image.without_pointer = {0: 16, 5: 0}, frozenset({5})
    record = image.records.take()
    record.words[10], record.words[layout.W_STACK_TOP] = 1, 0x5000
    for slot, pointer in ((4, 1), (0, 1), (-1, 1), (5, 0x5000)):
        image.give_frame_pointer(slot, record.words)
        assert record.words[10] == pointer, slot
    image.records.free.append(record)
