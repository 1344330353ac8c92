"""Iterators over sockets (``bpf_iter_unix``, tools/testing/selftests/bpf/progs/bpf_iter_unix.c)."""

import struct
from typing import Any

from socket_machine import Call, SocketMachine

from ebpfsim.btf.types import Kind
from ebpfsim.btf.view import place
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi.bpf import AttachType, ProgType

TYPE, STATE = place("unix_sock", "sk.sk_type")[0], place("unix_sock", "sk.__sk_common.skc_state")[0]
# seq_num, type and state of the socket, uid
SHOW = f"""
    r6 = r1; r7 = *(u64 *)(r6 + 0); r8 = *(u64 *)(r6 + 8)
    r1 = *(u64 *)(r7 + 16); *(u64 *)(r10 - 16) = r1; *(u64 *)(r10 - 8) = 0
    if r8 == 0 goto write
    r1 = *(u16 *)(r8 + {TYPE}); *(u16 *)(r10 - 8) = r1; r1 = *(u8 *)(r8 + {STATE}); *(u16 *)(r10 - 6) = r1
    r1 = *(u32 *)(r6 + 16); *(u32 *)(r10 - 4) = r1
    write: r1 = *(u64 *)(r7 + 0); r2 = r10; r2 += -16; r3 = 16; call bpf_seq_write; r0 = 0; exit
"""


def test_sockets_of_af_unix() -> None:
    machine, seen = SocketMachine(), list[Any]()
    host = machine.sim.hosts["h"]
    btf_id = vmlinux().by_name("bpf_iter_unix", Kind.FUNC)
    attributes: Any = {"expected_attach_type": AttachType.TRACE_ITER, "attach_btf_id": btf_id, "license": "GPL"}
    link = host.attach_iter(host.bpf.prog_load(ProgType.TRACING, encode(assemble(SHOW)), **attributes).fd)

    def what(_task: object, call: Call) -> None:
        call("socketpair", 1, 1, 0, bytes(8))
        call("socket", 1, 2, 0)
        call("socket", 1, 1, 0)
        call("bind", 6, b"\1\0\0name", 7)
        call("listen", 6, 5)
        call("close", 4)
        seen.extend(struct.iter_unpack("<QHHI", link.read()))

    machine.run(what, uid=1000)
    established, close, listen = 1, 7, 10  # include/net/tcp_states.h
    assert seen == [(0, 1, established, 1000), (1, 2, close, 1000), (2, 1, listen, 1000), (2, 0, 0, 0)]
