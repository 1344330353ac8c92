"""The BPF file system (kernel/bpf/inode.c, v6.18)."""

import errno as errnos
import os
from collections.abc import Callable
from typing import Any

import pytest

from ebpfsim.bpffs import MOUNT_POINT, BpfFs
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import MapType, ProgType


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
        ("/sys/fs/bpf/a/b", "ENOTDIR"),
        ("/sys/fs/bpf/b/", "ENOENT"),
        ("/sys/fs/bpf/" + "n" * 256, "ENAMETOOLONG"),
        ("", "ENOENT"),
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


def ask(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        call(*args, **kwargs)
    except KernelError as error:
        return error.errno_name
    except OSError as error:
        return errnos.errorcode[error.errno or 0]
    return "ok"


PINS = ["/m", "/m", "/.h", "/a.b", "/x/y", "/" + "n" * 255, "/" + "n" * 256, "", "/q/", "/m/x", "/../outside/x"]
FLAGS = [0, 8, 16, 24, 1]
OPENED = ["/nope", "", "/x/y", "/m/x", "/m/", "/p"]


def answers(bpf: Any, base: str, mkdir: Any, unlink: Any, rmdir: Any) -> list[str]:
    """Pin, open and remove below a directory; return what came of it."""
    array = bpf.map_create(MapType.ARRAY, 4, 4, 1)
    prog = bpf.prog_load(ProgType.XDP, encode(assemble("r0 = 2; exit"))).fd
    found = [ask(mkdir, base), ask(mkdir, base)]
    try:
        found += [ask(bpf.obj_pin, array, base + path) for path in PINS]
        found += [ask(bpf.obj_pin, fd, base + "/z") for fd in (0, 987)]
        found += [ask(bpf.obj_pin, prog, base + "/p"), ask(bpf.obj_pin, array, ""), ask(bpf.obj_pin, array, "relative")]
        found += [ask(bpf.obj_get, base + name, file_flags=flags) for name in ("/m", "/p") for flags in FLAGS]
        found += [ask(bpf.obj_get, base + path) for path in OPENED]
        found += [ask(mkdir, base + path) for path in ("/m", "/s", "/s.t", "/x/y")]
        found += [ask(rmdir, base + path) for path in ("", "/m", "/none")]
        found += [ask(unlink, base + path) for path in ("/s", "/none", "/m")]
    finally:
        for name in ("p", "m", "n" * 255):
            ask(unlink, f"{base}/{name}")
        for directory in ("/s", "/s.t", ""):
            ask(rmdir, base + directory)
    return found


@pytest.mark.live
def test_answers_are_those_of_linux(live_bpf, kernel) -> None:
    if not os.path.ismount(MOUNT_POINT):
        pytest.skip("no bpffs here")
    base = f"{MOUNT_POINT}/ebpfsim_{os.getpid()}"
    theirs = answers(live_bpf, base, os.mkdir, os.unlink, os.rmdir)
    fs = kernel.bpf.bpffs
    assert answers(kernel.bpf, base, fs.mkdir, fs.unlink, fs.rmdir) == theirs
    assert not os.path.exists(base)
    assert fs.pins() == {}
