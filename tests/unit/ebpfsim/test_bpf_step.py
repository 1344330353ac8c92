"""The step `bpf` of tasks: commands and fields of union bpf_attr by the names of include/uapi/linux/bpf.h."""

import pytest

import ebpfsim
from ebpfsim.bpf_step import attr_problems, is_by_name, parse_attr, write_attr
from ebpfsim.errors import InputError
from ebpfsim.uapi.bpf import BpfCmd


@pytest.fixture
def host() -> ebpfsim.Host:
    host = ebpfsim.Simulation(seed=1).host("h")
    host.nic("eth0", ["10.0.0.1/24"])
    return host


def results(host: ebpfsim.Host, *steps: object, uid: int = 0) -> list[str | int]:
    task = host.spawn("t", steps=list(steps), uid=uid)
    host.sim.run()
    return [row.errno or row.retval for row in task.results]


def test_maps_and_their_elements(host: ebpfsim.Host) -> None:
    made = {"map_type": "hash", "key_size": 4, "value_size": 8, "max_entries": 1, "map_name": "mine"}
    steps = [
        {"bpf": ["MAP_CREATE", made], "as": "m"},
        {"bpf": ["MAP_UPDATE_ELEM", {"map_fd": "$m", "key": 7, "value": 42}]},
        {"bpf": ["MAP_UPDATE_ELEM", {"map_fd": "$m", "key": 7, "value": 42, "flags": "BPF_NOEXIST"}]},
        {"bpf": ["MAP_UPDATE_ELEM", {"map_fd": "$m", "key": 8, "value": 42}]},
        {"bpf": ["MAP_LOOKUP_ELEM", {"map_fd": "$m", "key": 7}]},
        {"bpf": ["MAP_DELETE_ELEM", {"map_fd": "$m", "key": 9}]},
        {"bpf": ["MAP_GET_NEXT_KEY", {"map_fd": "$m"}]},
        {"bpf": ["MAP_CREATE", made | {"max_entries": 0}]},
    ]
    assert results(host, *steps) == [3, 0, "EEXIST", "E2BIG", 0, "ENOENT", 0, "EINVAL"]


def test_programs_are_loaded_and_attached(host: ebpfsim.Host) -> None:
    xdp = {"prog_type": "xdp", "expected_attach_type": "xdp", "insns": "r0 = 1; exit"}
    steps = [
        {"bpf": ["PROG_LOAD", xdp], "as": "prog"},
        {"bpf": ["PROG_LOAD", xdp | {"insns": "r0 = r5; exit"}]},
        {"bpf": ["LINK_CREATE", {"prog_fd": "$prog", "target_fd": "eth0", "attach_type": "xdp"}], "as": "link"},
        {"bpf": ["LINK_CREATE", {"prog_fd": "$prog", "target_fd": "eth0", "attach_type": "xdp"}]},
        {"bpf": ["PROG_LOAD", {"prog_type": "sched_cls", "insns": "r0 = 0; exit"}], "as": "tc"},
        {"bpf": ["LINK_CREATE", {"prog_fd": "$tc", "target_fd": "eth0", "attach_type": "tcx_ingress",
                                 "expected_revision": 7}]},
        {"bpf": ["LINK_UPDATE", {"link_fd": "$link", "new_prog_fd": "$tc"}]},
        {"bpf": ["LINK_DETACH", {"link_fd": "$link"}]},
    ]  # fmt: skip
    assert results(host, *steps) == [3, "EACCES", 4, "EBUSY", 5, "ESTALE", "EINVAL", 0]


def test_programs_for_functions_by_name(host: ebpfsim.Host) -> None:
    load = {"prog_type": "lsm", "expected_attach_type": "lsm_mac", "insns": "r0 = 0; exit"}
    steps = [
        {"bpf": ["PROG_LOAD", load | {"attach_btf_id": "bpf_lsm_file_open"}], "as": "prog"},
        {"bpf": ["PROG_LOAD", load | {"attach_btf_id": "schedule"}]},
        {"bpf": ["RAW_TRACEPOINT_OPEN", {"prog_fd": "$prog"}]},
    ]
    assert results(host, *steps) == [3, "EINVAL", 4]


def test_calls_as_in_c_are_left_alone(host: ebpfsim.Host) -> None:
    assert not is_by_name([0, 0x1000, 72])
    assert results(host, {"bpf": [0, 0x10, 72]}) == ["EFAULT"]


def test_defaults_are_what_the_kernel_needs() -> None:
    puts: list[bytes] = []

    class Room:
        def put(self, data: bytes, size: int = 0) -> int:
            puts.append(data)
            return 0x1000 * len(puts)

    call = parse_attr(["PROG_LOAD", {"prog_type": "xdp", "insns": "r0 = 2; exit"}])
    command, address, size = write_attr(call, Room(), lambda value: value, lambda _name: 0)
    assert (command, address, size) == (BpfCmd.PROG_LOAD, 0x3000, len(puts[2]))
    assert puts[:2] == [b"GPL\0", bytes.fromhex("b700000002000000 9500000000000000")]
    # prog_type XDP (6), 2 instructions, where they are, where the license is
    assert puts[2][:24] == bytes.fromhex("06000000 02000000 0020000000000000 0010000000000000")


WRONG = [
    (["MAP_CREAT", {}], (0,), "unknown command of bpf(2) 'MAP_CREAT'; did you mean 'MAP_CREATE'?"),
    (
        ["MAP_CREATE", {"map_typ": "hash"}],
        (1, "map_typ"),
        "MAP_CREATE has no field 'map_typ'; did you mean 'map_type'?",
    ),
    (["MAP_CREATE", {"map_type": "hsh"}], (1, "map_type"), "unknown map_type 'hsh'; did you mean 'hash'?"),
    (["MAP_CREATE", {"map_name": "longer than names are"}], (1, "map_name"), "'map_name' has at most 15 characters"),
    (
        ["MAP_CREATE", {"map_flags": "BPF_F_MMAPPABLE"}],
        (1, "map_flags"),
        "'BPF_F_MMAPPABLE' of 'map_flags' is no number",
    ),
    (["MAP_CREATE", {"key_size": [4]}], (1, "key_size"), "field 'key_size' is no number and no text: [4]"),
    (["PROG_LOAD", {"insns": "r0 = ; exit"}], (1, "insns"), "1:5: no instruction looks like"),
    (["PROG_LOAD", {"insns": ""}], (1, "insns"), "a program has instructions"),
    (["PROG_LOAD", {"attach_btf_id": "no_function"}], (1, "attach_btf_id"), "the kernel has no function 'no_function'"),
    (["LINK_DETACH", {"link_fd": "$lnk"}], (1, "link_fd"), "no $lnk"),
    (["LINK_DETACH", {"link_fd": 1}, 8], (2,), "nothing else"),
]


@pytest.mark.parametrize(("given", "path", "problem"), WRONG)
def test_mistakes_have_a_place(given: list[object], path: tuple[object, ...], problem: str) -> None:
    found = list(attr_problems(given, lambda name: f"no {name}"))
    assert [(row.path, problem in row.problem) for row in found] == [(path, True)]


def test_devices_that_there_are_not(host: ebpfsim.Host) -> None:
    with pytest.raises(InputError, match="no device 'eth1'; did you mean 'eth0'"):
        results(host, {"bpf": ["LINK_CREATE", {"target_fd": "eth1"}]})
