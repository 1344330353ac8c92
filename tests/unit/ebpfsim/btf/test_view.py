"""Structures in RAM lie as pahole shows them for Linux 6.18."""

import pytest

from ebpfsim.btf.view import Field, KernelStruct, Text, place, size_of
from ebpfsim.errors import BtfError, InternalError
from ebpfsim.memory import Memory


class Skb(KernelStruct):
    struct_name = "sk_buff"
    len = Field()
    protocol = Field()
    ip_summed = Field()
    pkt_type = Field()
    skb_iif = Field()


class Device(KernelStruct):
    struct_name = "net_device"
    name = Text()
    ifindex = Field()


class Task(KernelStruct):
    struct_name = "task_struct"
    pid = Field()
    comm = Text()
    cpu = Field("thread_info.cpu")


@pytest.fixture(scope="module")
def mem() -> Memory:
    return Memory()


# the offsets that Linux itself uses when it rewrites accesses to struct __sk_buff (tests/data/ctx_xlated.txt)
@pytest.mark.parametrize(("path", "where"), [("len", (112, 4)), ("protocol", (176, 2)), ("skb_iif", (144, 4))])
def test_places_are_those_of_linux(path: str, where: tuple[int, int]) -> None:
    assert place("sk_buff", path) == where
    assert Skb.member(path) == where


def test_size_is_that_of_linux() -> None:
    assert size_of("sk_buff") == 224


def test_numbers_are_stored_where_they_lie(mem: Memory) -> None:
    skb = Skb.alloc(mem)
    skb.len, skb.protocol = 60, 0x0008
    assert mem.load(skb.address + 112, 4) == skb.len == 60
    assert mem.load(skb.address + 176, 2) == 8
    skb.skb_iif = -1  # an int
    assert mem.load(skb.address + 144, 4) == 0xFFFF_FFFF
    assert skb.skb_iif == -1
    skb.free()


def test_bit_fields_leave_their_neighbours(mem: Memory) -> None:
    # struct __sk_buff's pkt_type is read as bits 0..2 of byte 128, ip_summed are bits 5 and 6 of it
    skb = Skb.alloc(mem)
    mem.store(skb.address + 128, 1, 0xFF)
    skb.pkt_type = 3
    assert mem.load(skb.address + 128, 1) == 0b1111_1011
    skb.ip_summed = 1
    assert mem.load(skb.address + 128, 1) == 0b1011_1011
    assert (skb.pkt_type, skb.ip_summed) == (3, 1)


def test_text_is_cut_to_its_array(mem: Memory) -> None:
    task = Task.alloc(mem)
    task.comm = "a name of more than 15"  # TASK_COMM_LEN is 16, with the NUL
    assert task.comm == "a name of more "
    task.comm = "sh"
    assert mem.read(task.member_address("comm"), 16) == b"sh" + bytes(14)
    task.cpu, task.pid = 3, 42
    assert (task.cpu, task.pid) == (3, 42)


def test_what_is_no_number_or_not_there(mem: Memory) -> None:
    class Wrong(KernelStruct):
        struct_name = "task_struct"
        comm = Field()
        absent = Field()

    wrong = Wrong(mem, mem.alloc(64))
    with pytest.raises(InternalError, match="'comm' of struct task_struct is no number"):
        _ = wrong.comm
    with pytest.raises(BtfError, match="no member 'absent'"):
        _ = wrong.absent
    with pytest.raises(InternalError, match="is a bit field"):
        place("sk_buff", "pkt_type")


def test_fields_of_the_class_are_themselves() -> None:
    # the first use makes a number a property, which is faster
    assert isinstance(Skb.len, Field | property)
    assert isinstance(Device.name, Text)
