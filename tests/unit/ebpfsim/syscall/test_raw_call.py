"""One call of bpf(2) as bytes."""

import pytest
from raw_calls import Raw

from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.memory import PAGE_SIZE
from ebpfsim.syscall.raw_call import Call, elements, refuse, refuse_token, text_of
from ebpfsim.uapi.bpf import BpfCmd
from ebpfsim.uapi.bpf_attr import ATTRS

CREATE = BpfCmd.MAP_CREATE


@pytest.fixture
def make(kernel):
    def make(cmd: BpfCmd = CREATE, size: int | None = None, **fields) -> Call:
        attr = ATTRS[cmd].pack(fields)
        return Call(kernel.bpf, cmd, ATTRS[cmd], bytes(attr), ATTRS[cmd].unpack(attr), attr[:size])

    return make


def test_results_go_where_there_is_room(make) -> None:
    call = make(BpfCmd.PROG_GET_NEXT_ID)
    call.put("next_id", 7)
    assert ATTRS[call.cmd].unpack(call.attr)["next_id"] == 7
    short = make(BpfCmd.PROG_GET_NEXT_ID, 4)
    short.put("next_id", 7)
    assert short.attr == bytes(4)


def test_elements_as_far_as_memory_goes(make, kernel) -> None:
    keys = kernel.bpf.user.alloc(PAGE_SIZE, bytes(range(16)))
    assert elements(make(BpfCmd.MAP_DELETE_BATCH, keys=keys), "keys", 4, 2) == ([b"\0\1\2\3", b"\4\5\6\7"], True)
    call = make(BpfCmd.MAP_DELETE_BATCH, keys=keys + PAGE_SIZE - 6)
    assert elements(call, "keys", 4, 3) == ([bytes(4)], False)


def test_what_is_not_modelled_is_said_by_field(make) -> None:
    refuse(make(), "map_ifindex")
    with pytest.raises(NotModelled, match=r"bpf\(BPF_MAP_CREATE\) with map_ifindex"):
        refuse(make(map_ifindex=1), "map_ifindex")


def test_tokens_are_refused(make) -> None:
    refuse_token(make(map_flags=1), "map_flags")
    with pytest.raises(KernelError, match=r"map_create: .*token that is none"):
        refuse_token(make(map_flags=1 << 16), "map_flags")


def test_text_ends_at_its_nul() -> None:
    assert text_of(b"name\0rest") == "name"
    assert text_of(b"\xff\0") == "\udcff"


def test_fields_by_name(kernel) -> None:
    raw = Raw(kernel.bpf)
    assert raw(CREATE, map_type=2, key_size=4, value_size=4, max_entries=1) > 0
    assert raw.out["value_size"] == 4
