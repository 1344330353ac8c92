"""Malformed calls of bpf(2), command by command: sizes, tails, pointers, descriptors and numbers that make no sense.

What the simulated kernel answers is what the live one does.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ebpfsim.clock import Clock
from ebpfsim.config import KernelConfig
from ebpfsim.errors import InputError, KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.kernel import Kernel
from ebpfsim.live import Bpf
from ebpfsim.live.sys import possible_cpus
from ebpfsim.memory import Memory
from ebpfsim.recorder import Recorder
from ebpfsim.rng import Rng
from ebpfsim.uapi.bpf import BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTR_ENDS, ATTRS, SIZEOF_BPF_ATTR

C = BpfCmd
NO_ID = 0x7FFF_FFFF
FAR_ID = 0x7FFF_FF00  # cut to a byte or two it is 0, after which there is one
POINTERS = {
    *("key", "value", "next_key", "keys", "values", "in_batch", "out_batch", "insns", "license", "info", "btf"),
    *("pathname", "data_in", "data_out", "name", "ctx_in", "ctx_out", "log_buf", "btf_log_buf", "prog_ids"),
}
# fields whose values would reach beyond the test, need what a machine may lack, or are not modelled
LEFT_OUT = {
    *("map_ifindex", "numa_node", "excl_prog_hash", "value_type_btf_obj_fd", "prog_token_fd", "map_token_fd"),
    *("prog_ifindex", "core_relo_cnt", "fd_array_cnt", "signature", "signature_size", "keyring_id", "fd_array"),
    *("core_relos", "core_relo_rec_size", "attach_btf_id", "log_level", "expected_attach_type", "id", "repeat"),
    *("duration", "batch_size", "cpu"),
}
COMMANDS = [cmd for cmd in BpfCmd if cmd not in (C.PROG_DETACH, C.TASK_FD_QUERY)]
ATTACHING = (C.PROG_ATTACH, C.LINK_CREATE, C.RAW_TRACEPOINT_OPEN, C.ITER_CREATE)


class Caller:
    """Calls of one kernel: objects to name, memory to point to, and the answers so far."""

    def __init__(self, bpf: Any) -> None:
        self.bpf, self.user = bpf, bpf.user
        self.answers: dict[str, object] = {}
        self.array = bpf.map_create(MapType.ARRAY, 4, 8, 4)
        self.hash = bpf.map_create(MapType.HASH, 4, 8, 4)
        insns = encode(assemble("r0 = 2; exit"))
        self.prog = bpf.prog_load(ProgType.XDP, insns).fd
        self.room, key = self.user.alloc(4096), self.user.alloc(64, struct.pack("<I", 1))
        code = {"insns": self.user.alloc(64, insns), "insn_cnt": 2, "license": self.user.alloc(16, b"GPL\0")}
        batch = {"keys": self.room, "values": self.room + 1024, "count": 2}
        found = batch | {"out_batch": self.room + 2048}
        data = {
            "data_in": self.room,
            "data_size_in": 64,
            "data_out": self.room + 1024,
            "data_size_out": 64,
            "repeat": 1,
        }
        # a good call of each command, where there is one
        self.good: dict[BpfCmd, dict[str, int]] = {
            C.MAP_CREATE: {"map_type": 2, "key_size": 4, "value_size": 8, "max_entries": 1},
            C.MAP_LOOKUP_ELEM: {"map_fd": self.array, "key": key, "value": self.room},
            C.MAP_UPDATE_ELEM: {"map_fd": self.array, "key": key, "value": self.room},
            C.MAP_DELETE_ELEM: {"map_fd": self.hash, "key": key},
            C.MAP_GET_NEXT_KEY: {"map_fd": self.array, "key": key, "next_key": self.room},
            C.MAP_LOOKUP_AND_DELETE_ELEM: {"map_fd": self.hash, "key": key, "value": self.room},
            C.MAP_LOOKUP_BATCH: {"map_fd": self.array} | found,
            C.MAP_LOOKUP_AND_DELETE_BATCH: {"map_fd": self.hash} | found,
            C.MAP_UPDATE_BATCH: {"map_fd": self.array} | batch,
            C.MAP_DELETE_BATCH: {"map_fd": self.hash, "keys": self.room, "count": 2},
            C.PROG_LOAD: {"prog_type": ProgType.XDP} | code,
            C.PROG_TEST_RUN: {"prog_fd": self.prog} | data,
            C.OBJ_GET_INFO_BY_FD: {"bpf_fd": self.array, "info_len": 104, "info": self.room},
            C.ENABLE_STATS: {"type": 0},
            C.PROG_BIND_MAP: {"prog_fd": self.prog, "map_fd": self.array},
            C.BTF_LOAD: {"btf": self.room, "btf_size": 24},
            C.PROG_GET_FD_BY_ID: {"id": NO_ID},
            C.MAP_GET_FD_BY_ID: {"id": NO_ID},
            C.BTF_GET_FD_BY_ID: {"id": NO_ID},
            C.LINK_GET_FD_BY_ID: {"id": NO_ID},
            C.PROG_GET_NEXT_ID: {"id": FAR_ID},
            C.MAP_GET_NEXT_ID: {"id": FAR_ID},
            C.BTF_GET_NEXT_ID: {"id": FAR_ID},
        }

    def ask(self, question: str, cmd: BpfCmd, attr: bytes, size: int | None = None) -> None:
        self.user.write(self.room, bytes(4096))
        try:
            result = self.bpf.raw(cmd, bytearray(attr), size)
        except KernelError as error:
            self.answers[question] = error.errno_name
        except (InputError, NotModelled):
            # refused before the live kernel hears of it, or not modelled here: no answer to compare
            self.answers[question] = None
        else:
            self.answers[question] = "ok"
            if result:
                self.bpf.close(result)

    def sizes_and_tails(self, cmd: BpfCmd) -> None:
        layout = ATTRS[cmd]
        end = ATTR_ENDS.get(cmd, layout.size)
        whole = bytes(layout.pack(self.good.get(cmd, {}))).ljust(300, b"\0")
        for size in {0, 1, 4, end - 8, end - 4, end - 1, end, end + 8, SIZEOF_BPF_ATTR, 200, 300}:
            if size == 1 and any(whole[1:4]):
                # half of a first field, such as a descriptor over 255, is another good one on one side only
                continue
            self.ask(f"size {size}", cmd, whole, max(0, size))
        self.ask("a page", cmd, whole.ljust(4096, b"\0"))
        self.ask("more than a page", cmd, whole, 4097)
        for off in {end, SIZEOF_BPF_ATTR - 1, SIZEOF_BPF_ATTR, 299}:
            if off >= end:
                self.ask(f"tail at {off}", cmd, whole[:off] + b"\1" + whole[off + 1 :])
                self.ask(f"tail at {off}, cut", cmd, whole[:off] + b"\1" + whole[off + 1 :], SIZEOF_BPF_ATTR)

    def fields(self, cmd: BpfCmd) -> None:
        layout, good = ATTRS[cmd], self.good.get(cmd, {})
        for name, field in layout.fields.items():
            bits = 8 * struct.calcsize(field.format)
            values: dict[str, int] = {}
            if name in POINTERS and good:
                values = {hex(value): value for value in (0, 1, 0x7000_0000_0000, 1 << 63, (1 << 64) - 1)}
            elif name.endswith("fd") and name not in LEFT_OUT:
                values = {"0": 0, "-1": 0xFFFF_FFFF, "closed": 0xFFFF}
                values |= {} if cmd in ATTACHING else {"prog": self.prog, "array": self.array}
            elif good and name not in LEFT_OUT and "s" not in field.format:
                values = {hex(value): value for value in (0, 1, 2, 3, 7, 8, 16, 0x100, 0x8000_0000, 0xFFFF_FFFF)}
            for text, value in values.items():
                signed = value - (1 << bits) if field.format == "<i" and value >> (bits - 1) else value
                self.ask(f"{name} {text}", cmd, bytes(layout.pack(good | {name: signed})))


@pytest.fixture
def callers() -> Iterator[tuple[Caller, Caller]]:
    before, cpus = open_fds(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    kernel = Kernel("host", KernelConfig(cpus=possible_cpus()), Memory(), Clock(), Rng(1), Recorder(), 0)
    try:
        yield Caller(Bpf()), Caller(kernel.bpf)
    finally:
        os.sched_setaffinity(0, cpus)
        for fd in open_fds() - before:
            with contextlib.suppress(OSError):
                os.close(fd)


def open_fds() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}


# a run of live frames on the loopback device is a run on this machine's; batches of so many keys read what lies behind
# the memory of the test; rooms of 4 GiB
NOT_COMPARED = {
    (C.PROG_TEST_RUN, "flags 0x2"),
    (C.PROG_TEST_RUN, "flags 0x3"),
    *((C.MAP_UPDATE_BATCH, f"count {count}") for count in ("0x100", "0x80000000", "0xffffffff")),
    *((C.MAP_DELETE_BATCH, f"count {count}") for count in ("0x100", "0x80000000", "0xffffffff")),
}


@pytest.mark.live
@pytest.mark.parametrize("family", ["sizes_and_tails", "fields"])
@pytest.mark.parametrize("cmd", COMMANDS, ids=lambda cmd: cmd.lower)
def test_malformed_calls(callers, cmd, family) -> None:
    live, simulated = callers
    for caller in callers:
        getattr(caller, family)(cmd)
    differing = {
        question: (answer, simulated.answers[question])
        for question, answer in live.answers.items()
        if answer != simulated.answers[question]
        and answer is not None
        and simulated.answers[question] is not None
        and (cmd, question) not in NOT_COMPARED
    }
    assert not differing
    assert live.answers
