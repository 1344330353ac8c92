"""The BPF file system (kernel/bpf/inode.c, v6.18)."""

import pytest

from ebpfsim.bpffs import BpfFs
from ebpfsim.objects import KernelObject


class Thing(KernelObject):
    """An object that remembers that it went."""

    gone = False

    def on_release(self) -> None:
        self.gone = True


@pytest.fixture
def fs() -> BpfFs:
    return BpfFs()


def test_pin_takes_a_reference_of_user_space(fs) -> None:
    thing = Thing()
    fs.pin("/sys/fs/bpf/a", thing)
    assert (thing.refs, thing.user_refs) == (2, 1)
    thing.put()
    assert fs.get("/sys/fs/bpf/a") is thing
    fs.unlink("/sys/fs/bpf/a")
    assert thing.gone


def test_directories(fs, refused) -> None:
    thing = Thing()
    assert refused(fs.pin, "/sys/fs/bpf/dir/a", thing) == "ENOENT"
    fs.mkdir("/sys/fs/bpf/dir")
    fs.pin("/sys/fs/bpf/dir/a", thing)
    assert refused(fs.rmdir, "/sys/fs/bpf/dir") == "ENOTEMPTY"
    fs.unlink("/sys/fs/bpf/dir/a")
    fs.rmdir("/sys/fs/bpf/dir")
    assert refused(fs.rmdir, "/sys/fs/bpf/dir") == "ENOENT"
    assert refused(fs.rmdir, "/sys/fs/bpf") == "ENOTEMPTY"


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("/sys/fs/bpf/a", "EEXIST"),
        ("/sys/fs/bpf", "EEXIST"),
        ("/sys/fs/bpf/a/b", "ENOENT"),
        ("/tmp/a", "EPERM"),
        ("/sys/fs/bpf/../x", "EPERM"),
        ("/sys/fs/bpf/a.b", "EPERM"),
        ("/sys/fs/bpfx", "EPERM"),
    ],
)
def test_paths_refused(fs, refused, path, errno) -> None:
    fs.pin("/sys/fs/bpf/a", Thing())
    assert refused(fs.pin, path, Thing()) == errno


def test_looking_for_what_is_not_there(fs, refused) -> None:
    assert refused(fs.get, "/sys/fs/bpf/a") == "ENOENT"
    assert refused(fs.get, "/sys/fs/bpf") == "EACCES"
    assert refused(fs.unlink, "/sys/fs/bpf/a") == "ENOENT"
    assert refused(fs.unlink, "/sys/fs/bpf") == "EISDIR"


def test_paths_are_normalised_and_listed_in_order(fs) -> None:
    for name in ("b", "a"):
        fs.pin(f"/sys/fs/bpf//{name}", Thing())
    assert list(fs.pins()) == ["/sys/fs/bpf/a", "/sys/fs/bpf/b"]
