"""What the older ways to attach say of wrong arguments (kernel/bpf/syscall.c, v6.18).

The live kernel is asked with descriptors that are no programs, so that nothing is ever attached to this machine.
"""

import pytest

from ebpfsim.errors import KernelError, NotModelled
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.objects import KernelObject
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType
from ebpfsim.uapi.bpf_attr import ATTRS

A = AttachType
CLOSED = 0xFFFF
KINDS = [*AttachType, 99]
ORDERED = (A.TCX_INGRESS, A.TCX_EGRESS, A.NETKIT_PRIMARY, A.NETKIT_PEER)


def ask(bpf, cmd: BpfCmd, **fields: int) -> str | int:
    try:
        return bpf.raw(cmd, ATTRS[cmd].pack(fields))
    except KernelError as error:
        return error.errno_name


@pytest.mark.live
@pytest.mark.parametrize("kind", KINDS)
def test_wrong_arguments_are_refused_as_by_linux(live_bpf, kernel, kind) -> None:
    if kind in (A.NETKIT_PRIMARY, A.NETKIT_PEER):
        query = {"attach_type": kind, "target_fd": CLOSED}
        if ask(live_bpf, BpfCmd.PROG_QUERY, **query) == "EINVAL":
            pytest.skip("this Linux was built without netkit (netkit_prog_query)")
    answers = []
    for bpf in (live_bpf, kernel.bpf):
        array = bpf.map_create(MapType.ARRAY, 4, 4, 1)
        attach = [
            ask(bpf, BpfCmd.PROG_ATTACH, attach_type=kind, attach_bpf_fd=CLOSED, **more)
            for more in (
                *({"attach_flags": 1 << bit} for bit in range(8)),
                *({name: 5} for name in ("relative_fd", "expected_revision", "replace_bpf_fd")),
            )
        ]
        # an interface of that number may exist
        targets = [CLOSED, 0] if kind in ORDERED else [CLOSED, 0, array]
        query = [ask(bpf, BpfCmd.PROG_QUERY, attach_type=kind, target_fd=fd) for fd in targets]
        query += [ask(bpf, BpfCmd.PROG_QUERY, attach_type=kind, target_fd=CLOSED, query_flags=1 << b) for b in range(4)]
        answers.append((attach, query, ask(bpf, BpfCmd.LINK_CREATE, attach_type=kind, prog_fd=CLOSED)))
    assert answers[0] == answers[1]


CASES = [
    (BpfCmd.RAW_TRACEPOINT_OPEN, {"prog_fd": CLOSED}, "EBADF"),
    (BpfCmd.RAW_TRACEPOINT_OPEN, {"prog_fd": 0}, "EINVAL"),
    (BpfCmd.ITER_CREATE, {"link_fd": CLOSED}, "EBADF"),
    (BpfCmd.ITER_CREATE, {"link_fd": 0}, "EINVAL"),
    (BpfCmd.ITER_CREATE, {"link_fd": CLOSED, "flags": 1}, "EINVAL"),
    (BpfCmd.TOKEN_CREATE, {"bpffs_fd": CLOSED}, "EBADF"),
    (BpfCmd.TOKEN_CREATE, {"bpffs_fd": 0}, "EINVAL"),
    (BpfCmd.TOKEN_CREATE, {"bpffs_fd": CLOSED, "flags": 1}, "EINVAL"),
    (BpfCmd.PROG_STREAM_READ_BY_FD, {"prog_fd": CLOSED}, "EBADF"),
]


@pytest.mark.parametrize(("cmd", "fields", "errno"), CASES)
def test_other_commands(bpf, cmd, fields, errno) -> None:
    assert ask(bpf, cmd, **fields) == errno


@pytest.fixture
def load(kernel):
    def load(prog_type: ProgType, code: str = "r0 = 1; exit") -> int:
        return kernel.bpf.prog_load(prog_type, encode(assemble(code))).fd

    return load


def test_programs_fit_their_attach_type(kernel, load, refused) -> None:
    prog = load(ProgType.XDP)
    assert refused(kernel.bpf.prog_attach, prog, 3, A.SK_MSG_VERDICT) == "EINVAL"
    assert refused(kernel.bpf.prog_attach, load(ProgType.SK_MSG), CLOSED, A.SK_MSG_VERDICT) == "EBADF"


def test_hooks_that_are_not_there_say_so(kernel, load) -> None:
    map_ = kernel.bpf.map_create(MapType.SOCKMAP, 4, 4, 1)
    kernel.attach_table.points.clear()
    with pytest.raises(NotModelled, match=r"BPF_PROG_ATTACH\) with BPF_SK_MSG_VERDICT"):
        kernel.bpf.prog_attach(load(ProgType.SK_MSG), map_, A.SK_MSG_VERDICT)
    with pytest.raises(NotModelled, match=r"BPF_PROG_DETACH\) with BPF_SK_MSG_VERDICT"):
        kernel.bpf.prog_detach(0, map_, A.SK_MSG_VERDICT)
    with pytest.raises(NotModelled, match=r"BPF_PROG_QUERY\) with BPF_SK_MSG_VERDICT"):
        kernel.bpf.prog_query(map_, A.SK_MSG_VERDICT)


def test_tracepoints_want_programs_for_them(kernel, load, refused) -> None:
    assert refused(kernel.bpf.raw_tracepoint_open, "sched_switch", load(ProgType.XDP)) == "EINVAL"


def test_links_of_iterators_open_themselves(kernel) -> None:
    class IterLink(KernelObject):
        def iter_create(self) -> KernelObject:
            return KernelObject()

    fd = kernel.bpf.iter_create(kernel.fds.install(IterLink()))
    assert isinstance(kernel.fds.lookup(fd), KernelObject)
