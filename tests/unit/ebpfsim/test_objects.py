"""Reference counts, ids that are not reused, descriptors that are."""

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.objects import FdTable, IdTable, KernelObject


class Thing(KernelObject):
    def __init__(self) -> None:
        super().__init__()
        self.released = 0
        self.left_by_users = 0

    def on_release(self) -> None:
        self.released += 1

    def on_user_release(self) -> None:
        self.left_by_users += 1


def test_last_reference_releases_once() -> None:
    thing = Thing()
    thing.get()
    thing.put()
    assert thing.released == 0
    thing.put()
    assert thing.released == 1
    with pytest.raises(InternalError, match="reference dropped on a released Thing"):
        thing.put()
    with pytest.raises(InternalError, match="reference taken on a released Thing"):
        thing.get()


def test_users_may_leave_before_the_kernel_does() -> None:
    # usercnt of struct bpf_map: a program_array is emptied when the last descriptor goes, though programs hold it
    fds, thing = FdTable(), Thing()
    thing.get()  # the kernel's
    fd = fds.install(thing)
    fds.close(fd)
    assert (thing.left_by_users, thing.released) == (1, 0)
    thing.put()
    assert thing.released == 1


def test_ids_ascend_and_are_not_reused() -> None:
    table: IdTable[Thing] = IdTable()
    things = [Thing() for _ in range(3)]
    assert [table.add(thing) for thing in things] == [1, 2, 3]
    table.remove(things[2])
    assert table.add(Thing()) == 4
    assert table.find(3) is None
    assert table.find(2) is things[1]
    assert [table.next_id(start) for start in (0, 1, 2, 4)] == [1, 2, 4, None]
    assert (len(table), [thing.id for thing in table]) == (3, [1, 2, 4])


def test_lowest_free_descriptor_is_given() -> None:
    fds = FdTable()
    things = [Thing() for _ in range(4)]
    assert [fds.install(thing) for thing in things[:3]] == [3, 4, 5]
    fds.close(4)
    assert fds.lookup(4) is None
    assert fds.install(things[3]) == 4
    assert fds.lookup(4) is things[3]
    assert things[1].released == 1


def test_access_mode_is_kept_per_descriptor() -> None:
    fds, thing = FdTable(), Thing()
    file = fds.file(fds.install(thing, writable=False))
    assert file is not None
    assert (file.readable, file.writable) == (True, False)


def test_closing_what_is_not_open() -> None:
    with pytest.raises(KernelError, match=r"^close: Bad file descriptor \(EBADF\): fd 9 is not open$") as error:
        FdTable().close(9)
    assert error.value.errno == Errno.EBADF


def test_end_of_a_task_closes_everything() -> None:
    fds = FdTable()
    things = [Thing() for _ in range(3)]
    for thing in things:
        fds.install(thing)
    fds.close_all()
    assert [thing.released for thing in things] == [1, 1, 1]
