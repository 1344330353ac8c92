"""Which kernel an object is fitted to."""

from types import SimpleNamespace
from typing import Any

import pytest

from ebpfsim.btf.encode import encode_types
from ebpfsim.btf.types import Int
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errnos import Errno
from ebpfsim.errors import KernelError
from ebpfsim.loader.kernel import LINUX_VERSION_CODE, KernelView, kernel_view


def test_the_default_is_linux_6_18() -> None:
    view = KernelView()
    assert view.btf() is vmlinux()
    assert view.version_code == LINUX_VERSION_CODE == 0x061200
    assert view.symbol("anything") is None


def test_a_bpf_may_bring_its_own_view(remembered: Any) -> None:
    remembered.kernel_view = KernelView(version_code=5)
    assert kernel_view(remembered).version_code == 5


def test_without_btf_among_the_ids_it_is_the_bundled_one(remembered: Any) -> None:
    assert kernel_view(remembered).btf() is vmlinux()


def test_btf_of_the_kernel_is_found_by_its_name(remembered: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = encode_types([Int("int", 4, 32)])
    infos = {
        1: SimpleNamespace(name="prog", kernel_btf=0, btf=b""),
        2: SimpleNamespace(name="vmlinux", kernel_btf=1, btf=blob),
    }

    def next_id(start_id: int) -> int:
        if start_id + 1 not in infos:
            raise KernelError("btf_get_next_id", Errno.ENOENT)
        return start_id + 1

    monkeypatch.setattr(remembered, "btf_get_next_id", next_id)
    monkeypatch.setattr(remembered, "btf_get_fd_by_id", lambda btf_id: remembered.open.add(btf_id) or btf_id)
    monkeypatch.setattr(remembered, "obj_get_info_by_fd", infos.__getitem__)
    view = kernel_view(remembered)
    assert view.btf().raw == blob
    assert view.btf() is view.btf()
    assert remembered.open == set()
    infos[2] = SimpleNamespace(name="vmlinux", kernel_btf=1, btf=vmlinux().raw)
    assert kernel_view(remembered).btf() is vmlinux()
