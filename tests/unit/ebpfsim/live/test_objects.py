"""Information records of the live kernel."""

import pytest

from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.syscall.results import BtfInfo, MapInfo, ProgInfo
from ebpfsim.uapi.bpf import MapType, ProgType


@pytest.mark.live
def test_the_record_fits_the_object(live_bpf) -> None:
    code = encode(assemble("r0 = 2; exit"))
    map_fd = live_bpf.map_create(MapType.ARRAY, 4, 8, 1)
    prog = live_bpf.obj_get_info_by_fd(live_bpf.prog_load(ProgType.XDP, code).fd)
    assert isinstance(prog, ProgInfo)
    assert prog.xlated_prog_insns == code
    assert isinstance(live_bpf.obj_get_info_by_fd(map_fd), MapInfo)
    assert isinstance(live_bpf.obj_get_info_by_fd(live_bpf.btf_get_fd_by_id(1)), BtfInfo)


@pytest.mark.live
def test_reading_something_that_cannot_be_read(live_bpf, refused) -> None:
    assert refused(live_bpf.read, live_bpf.map_create(MapType.ARRAY, 4, 8, 1), 8) == "EINVAL"


@pytest.mark.live
def test_pinning_outside_a_bpf_file_system(live_bpf, refused, tmp_path) -> None:
    fd = live_bpf.map_create(MapType.ARRAY, 4, 8, 1)
    assert refused(live_bpf.obj_pin, fd, str(tmp_path / "x")) == "EPERM"
    assert refused(live_bpf.obj_get, str(tmp_path / "x")) == "ENOENT"
