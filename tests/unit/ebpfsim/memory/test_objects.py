"""The table of objects: what may be accessed, what a report says, and what freed memory is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.memory import Memory
from ebpfsim.memory.arena import KERNEL_BASE
from ebpfsim.memory.slab import POISON_FREE, QUARANTINE_BYTES

STACK_BYTES = 4096


@pytest.fixture
def mem() -> Memory:
    mem = Memory(1 << 28)
    mem.track()
    return mem


def allows(mem: Memory, base: int, off: int, size: int, *, strict: bool = True) -> bool:
    return mem.track().allows(base, base + off, size, strict)


@given(size=st.integers(1, 300), off=st.integers(-64, 400), width=st.sampled_from((1, 2, 4, 8)))
def test_an_allocation_is_an_object_to_the_byte(size: int, off: int, width: int) -> None:
    mem = Memory(1 << 28)
    mem.track()
    mem.alloc(300)
    address = mem.alloc(size)
    mem.alloc(300)
    assert allows(mem, address, off, width) == (off >= 0 and off + width <= size)


def test_a_pointer_stays_in_its_object_even_where_another_one_lies(mem: Memory) -> None:
    first, second = mem.alloc(32), mem.alloc(32)
    distance = second - first
    assert not allows(mem, first, distance, 8)
    assert allows(mem, first, distance, 8, strict=False)
    assert not allows(mem, first + 32, distance - 32, 8)  # the end of an object belongs to it
    assert allows(mem, first - 8, 8, 8)  # a pointer to nothing may come back


def test_elements_side_by_side(mem: Memory) -> None:
    objects = mem.track()
    block = mem.alloc(10 * 24)
    number = objects.part(block, 240, lambda index: f"element {index}", stride=24, length=12)
    assert allows(mem, block + 24, 4, 8)
    assert not allows(mem, block + 24, 5, 8)
    assert not allows(mem, block + 24, 24, 8)
    assert objects.report(block + 24, block + 24 + 16, 8, strict=True).about == (
        f"4 bytes past the end of element 1 (12 bytes at {block + 24:#x})"
    )
    objects.kill(number)
    assert not allows(mem, block + 24, 0, 8)
    report = objects.report(block + 24, block + 24, 8, strict=True)
    assert (report.bug, report.about[:28]) == ("slab-use-after-free", "0 bytes into element 1, free")


# get_shadow_bug_type() and get_wild_bug_type() of mm/kasan/report_generic.c
def test_names_of_bugs(mem: Memory) -> None:
    objects = mem.track()
    address = mem.alloc(20, what="struct thing")

    def bug(address: int) -> tuple[str, str]:
        report = objects.report(0, address, 8, strict=True)
        return report.bug, report.about

    assert bug(8) == ("null-ptr-deref", "")
    assert bug(0x4000_0000) == ("user-memory-access", "")
    assert bug(0xFFFF_8000_0000_0000) == ("wild-memory-access", "")
    where = f"struct thing (20 bytes at {address:#x})"
    assert bug(address + 16) == ("slab-out-of-bounds", f"4 bytes over the end of {where}")
    assert bug(address + 24) == ("slab-out-of-bounds", f"4 bytes past the end of {where}")
    objects.limit(address, address + 8, address + 16, "the packet")
    packet = f"the packet (8 bytes at {address + 8:#x})"
    assert bug(address) == ("slab-out-of-bounds", f"8 bytes before {packet}")
    mem.free(address)
    assert bug(address + 8) == ("use-after-free", f"0 bytes into the packet, freed (8 bytes at {address + 8:#x})")


def test_freed_memory_is_poisoned_and_kept_apart(mem: Memory) -> None:
    address = mem.alloc(64)
    mem.write(address, b"x" * 64)
    mem.free(address)
    assert mem.read(address, 64) == bytes([POISON_FREE]) * 64
    others = [mem.alloc(64) for _ in range(3)]
    assert address not in others
    for _ in range(QUARANTINE_BYTES // 4096 + 2):
        mem.free(mem.alloc(4000))
    assert mem.track().report(0, address, 8, strict=True).bug == "slab-use-after-free"
    assert mem.alloc(64) == address
    assert allows(mem, address, 56, 8)
    assert mem.read(address, 64) == bytes(64)


def test_frames_of_functions(mem: Memory) -> None:
    objects = mem.track()
    base = mem.alloc_guarded(STACK_BYTES)
    top = base + STACK_BYTES
    assert not objects.holds(top - 8, 8)
    objects.enter_frame(base, STACK_BYTES, top - 64, top, 40)
    assert objects.holds(top - 40, 40)
    assert not objects.holds(top - 48, 8)
    objects.enter_frame(base, STACK_BYTES, top - 128, top - 64, 48)
    assert objects.holds(top - 112, 48)
    assert objects.holds(top - 40, 8)
    # a tail call: another function in the same place
    objects.enter_frame(base, STACK_BYTES, top - 96, top - 64, 16)
    assert objects.holds(top - 80, 16)
    assert not objects.holds(top - 112, 8)
    objects.leave_frame(base, STACK_BYTES, top - 96)
    assert not objects.holds(top - 80, 8)
    assert objects.report(top, top - 80, 8, strict=True).bug == "stack-out-of-bounds"
    objects.unwind(base, top)
    assert not objects.holds(top - 40, 8)


def test_a_spoiled_frame_pointer_gives_no_frame(mem: Memory) -> None:
    objects = mem.track()
    base = mem.alloc_guarded(STACK_BYTES)
    for bottom, frame in ((base + 8, base + 520), (base - 64, base), (KERNEL_BASE, KERNEL_BASE + 64)):
        objects.enter_frame(base, STACK_BYTES, bottom, frame, 8)
        objects.leave_frame(base, STACK_BYTES, bottom)
        assert not objects.holds(frame - 8, 8)


def test_what_was_there_before_counts() -> None:
    mem = Memory(1 << 28)
    address = mem.alloc(24)
    mem.track()
    assert allows(mem, address, 24, 8)  # the whole block: its size is not known any more
    assert not allows(mem, address, 32, 8)


def test_parts_of_an_allocation(mem: Memory) -> None:
    objects = mem.track()
    block = mem.alloc(4096)
    objects.hide(block, "a ring")
    hidden = objects.report(0, block + 16, 8, strict=True)
    assert (hidden.bug, hidden.about) == (
        "slab-out-of-bounds", "16 bytes into a ring, which programs may not access",
    )  # fmt: skip
    record = objects.part(block + 8, 20, "a record")
    assert objects.holds(block + 8, 20)
    assert not objects.holds(block + 28, 1)
    objects.kill(record)
    assert objects.report(0, block + 8, 8, strict=True).bug == "slab-use-after-free"
    objects.revive(record, "another record")
    report = objects.report(block + 8, block + 32, 8, strict=True)
    assert report.about.startswith("4 bytes past the end of another record")
    # what lies in its place takes it out
    objects.drop_parts(block + 24, 40)
    assert not objects.holds(block + 8, 8)
    assert objects.part(block + 24, 40, "a third one") == record
    assert objects.holds(block + 24, 40)
    mem.free(block)
    assert not objects.holds(block + 24, 40)
