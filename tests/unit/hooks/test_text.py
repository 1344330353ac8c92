"""Generated text: addresses, names, grace periods."""

import pytest

from ebpfsim.clock import Clock
from ebpfsim.errors import InternalError
from ebpfsim.memory import Memory
from hooks.text import GRACE_NS, KernelText, function_address


class Owner:
    def __init__(self) -> None:
        self.mem = Memory(1 << 26)
        self.clock = Clock()


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_an_image_has_bytes_in_ram_and_an_address_near_the_kernel(owner) -> None:
    text = KernelText(owner)
    image = text.reserve("bpf_trampoline_1", 64)
    text.publish(image, b"\x90\xc3")
    assert owner.mem.read(image.ram, 2) == b"\x90\xc3"
    assert (image.size, text.code(image)) == (2, b"\x90\xc3")
    # calls of 32 bits reach the kernel's functions
    assert abs(image.address - function_address("__bpf_prog_enter_recur")) < 1 << 31
    assert text.images == {"bpf_trampoline_1": image}


def test_what_was_replaced_is_freed_once_after_the_grace_period(owner) -> None:
    text = KernelText(owner)
    first, second = (text.reserve("t", 64) for _ in range(2))
    text.publish(first, b"\xc3")
    text.publish(second, b"\xc3")
    text.retire(first)
    assert text.images == {"t": second}
    text.reclaim()
    assert (text.nr_retired, text.freed) == (1, 0)
    owner.clock.now_ns += GRACE_NS
    text.reclaim()
    text.reclaim()
    assert (text.nr_retired, text.freed, text.allocated) == (0, 1, 2)


def test_too_much_code(owner) -> None:
    text = KernelText(owner)
    with pytest.raises(InternalError, match="65 bytes of code in room for 64"):
        text.publish(text.reserve("t", 64), bytes(65))


def test_no_such_function() -> None:
    with pytest.raises(InternalError, match="no function no_such_function"):
        function_address("no_such_function")
