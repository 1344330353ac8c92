"""The address space of a task."""

import pytest

from ebpfsim.errors import InternalError
from ebpfsim.memory import PAGE_SIZE, Memory
from ebpfsim.memory.user import PageState, UserFault, UserMemory


@pytest.fixture
def mem() -> Memory:
    return Memory(1 << 26)


@pytest.fixture
def user(mem) -> UserMemory:
    return UserMemory(mem)


def test_memory_of_ones_own(user) -> None:
    address = user.alloc(10, b"hello")
    assert user.read(address, 7) == b"hello\0\0"
    user.write(address + 5, b" you")
    assert user.read_string(address, 100) == b"hello you"


def test_whole_pages_with_a_gap_between(user) -> None:
    first, second = user.alloc(1), user.alloc(PAGE_SIZE + 1)
    assert user.read(first + PAGE_SIZE - 1, 1) == b"\0"
    assert user.read(second + 2 * PAGE_SIZE - 1, 1) == b"\0"
    for address, size in ((first + PAGE_SIZE - 1, 2), (first + PAGE_SIZE, 1), (first - 1, 1), (0, 1), (1 << 63, 8)):
        with pytest.raises(UserFault):
            user.read(address, size)
        with pytest.raises(UserFault):
            user.write(address, bytes(size))


def test_nothing_can_be_read_anywhere(user) -> None:
    assert user.read(0, 0) == b""
    user.write(1 << 63, b"")


def test_strings_end_at_a_nul_or_fault(user) -> None:
    address = user.alloc(PAGE_SIZE, b"x" * PAGE_SIZE)
    assert user.read_string(address, 5) == b"xxxxx"
    with pytest.raises(UserFault, match=f"{address + PAGE_SIZE:#x}"):
        user.read_string(address, PAGE_SIZE + 1)
    with pytest.raises(UserFault):
        user.read_string(0, 1)


def test_mappings_show_memory_of_others(mem, user) -> None:
    kernel_address = mem.alloc(PAGE_SIZE)
    address = user.map(kernel_address, PAGE_SIZE, writable=True)
    user.write(address + 8, b"shared")
    assert mem.read(kernel_address + 8, 6) == b"shared"
    user.unmap(address)
    assert mem.read(kernel_address + 8, 6) == b"shared"
    with pytest.raises(UserFault):
        user.read(address, 1)


def test_read_only(mem, user) -> None:
    address = user.map(mem.alloc(PAGE_SIZE), PAGE_SIZE, writable=False)
    assert user.read(address, 1) == b"\0"
    with pytest.raises(UserFault):
        user.write(address, b"x")


def test_what_is_given_back_is_free(mem, user) -> None:
    before = mem.allocated_bytes
    addresses = [user.alloc(PAGE_SIZE) for _ in range(3)]
    for address in addresses:
        user.unmap(address)
    assert mem.allocated_bytes == before
    with pytest.raises(InternalError, match="nothing is mapped"):
        user.unmap(addresses[0])


def test_pages_come_with_their_first_access(user) -> None:
    asked = []

    def pager(address: int, write: bool, allowed: bool) -> None:
        asked.append((address, write, allowed))
        user.pages[address // PAGE_SIZE] = PageState.OWN if write else PageState.CLEAN

    user.pager = pager
    user.place(0x10000, 3 * PAGE_SIZE, b"text")
    user.expect(0x10000, 3 * PAGE_SIZE)
    assert user.read_string(0x10000, 100) == b"text"
    user.write(0x10000, b"T")
    user.write(0x10000 + PAGE_SIZE - 2, b"four")
    assert asked == [(0x10000, False, True), (0x10000, True, True), (0x10000 + PAGE_SIZE, True, True)]
    assert user.copy().pages == user.pages


def test_atomic_accesses_do_not_let_pages_come(user) -> None:
    user.place(0x10000, 2 * PAGE_SIZE, b"text")
    user.expect(0x10000, 2 * PAGE_SIZE)
    with pytest.raises(UserFault):
        user.peek_string(0x10000, 8)
    user.touch(0x10000, 1, write=False)
    assert (user.peek_string(0x10000, 8), user.peek(0x10001, 3)) == (b"text", b"ext")
    with pytest.raises(UserFault):
        user.peek(0x10000 + PAGE_SIZE - 1, 2)


def test_states_of_pages_survive_what_is_cut_around_them(user) -> None:
    user.place(0x10000, 4 * PAGE_SIZE)
    user.expect(0x10000, 4 * PAGE_SIZE)
    user.write(0x10000, b"x")
    user.unmap_range(0x10000 + PAGE_SIZE, 0x10000 + 2 * PAGE_SIZE)
    user.protect(0x10000 + 2 * PAGE_SIZE, 0x10000 + 3 * PAGE_SIZE, writable=False, readable=True)
    states = {page - 0x10: state for page, state in user.pages.items()}
    assert states == {0: PageState.OWN, 2: PageState.ABSENT, 3: PageState.ABSENT}
