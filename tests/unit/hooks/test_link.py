"""struct bpf_link of kernel/bpf/syscall.c, v6.18: references, info, what happens when nobody holds it any more."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from ebpfsim.errnos import Errno
from ebpfsim.errors import InternalError, KernelError
from ebpfsim.objects import FdTable
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import AttachType, LinkType
from hooks.link import HookStats, Link

MakeProg = Callable[..., Prog]


class RecordingLink(Link):
    """A link that only says when it left its hook."""

    type: ClassVar[LinkType] = LinkType.TRACING

    def __init__(self, kernel: Any, prog: Prog, label: str = "") -> None:
        super().__init__(kernel, prog, AttachType.TRACE_FENTRY, label)
        self.released = 0

    def fill_link_info(self) -> dict[str, object]:
        return {"attach_type": int(self.attach_type)}

    def release(self) -> None:
        self.released += 1


def test_link_holds_its_program_until_it_is_freed(kernel: Any, new_prog: MakeProg) -> None:
    prog = new_prog()
    link = RecordingLink(kernel, prog)
    assert prog.refs == 2
    link.put()
    assert (link.released, prog.refs) == (1, 1)


def test_closing_the_last_descriptor_takes_the_link_off_its_hook(kernel: Any, new_prog: MakeProg) -> None:
    fds, prog = FdTable(), new_prog()
    link = RecordingLink(kernel, prog)
    first = fds.install(link)
    link.get()
    second = fds.install(link)
    fds.close(first)
    assert (link.released, kernel.links.find(link.id)) == (0, link)
    fds.close(second)
    assert (link.released, kernel.links.find(link.id), prog.refs) == (1, None, 1)
    with pytest.raises(InternalError):
        link.put()


def test_ids_ascend_and_are_not_given_again(kernel: Any, new_prog: MakeProg) -> None:
    first = RecordingLink(kernel, new_prog())
    first.put()
    assert [RecordingLink(kernel, new_prog()).id for _ in range(2)] == [2, 3]


def test_info_has_the_fields_of_struct_bpf_link_info(kernel: Any, new_prog: MakeProg) -> None:
    link = RecordingLink(kernel, new_prog(prog_id=7))
    # BPF_LINK_TYPE_TRACING 2 and BPF_TRACE_FENTRY 24, include/uapi/linux/bpf.h
    assert link.info() == {"type": 2, "id": 1, "prog_id": 7, "attach_type": 24}


def test_what_a_kind_of_link_does_not_support(kernel: Any, new_prog: MakeProg) -> None:
    """facts/hooks-6.12.md: link_update of a tracing link gives EINVAL, link_detach EOPNOTSUPP."""
    link = RecordingLink(kernel, new_prog())
    with pytest.raises(KernelError, match="tracing link cannot be updated") as update:
        link.update(new_prog())
    with pytest.raises(KernelError, match="tracing link cannot be detached") as detach:
        link.detach()
    assert (update.value.errno, detach.value.errno) == (Errno.EINVAL, Errno.EOPNOTSUPP)


def test_label_is_the_id_unless_given(kernel: Any, new_prog: MakeProg) -> None:
    assert RecordingLink(kernel, new_prog()).label == "link 1"
    assert RecordingLink(kernel, new_prog(), "guard").label == "guard"


def test_stats_count_runs_by_verdict(kernel: Any, new_prog: MakeProg) -> None:
    link = RecordingLink(kernel, new_prog())
    assert (link.runs, link.verdicts, link.ns_per_run, link.ns_per_packet) == (0, {}, 0.0, 0.0)
    link.stats.count("XDP_DROP", 3_000, 34_000)
    link.stats.count("XDP_DROP", 3_000, 34_000)
    link.stats.count("XDP_PASS", 4_001, 50_000)
    assert (link.runs, link.verdicts) == (3, {"XDP_DROP": 2, "XDP_PASS": 1})
    # picoseconds are cut off, not rounded: 10001 / 3
    assert (link.ns_per_run, link.ns_per_packet) == (3.333, 39.333)


def test_stats_of_another_hook_are_its_own() -> None:
    a, b = HookStats(), HookStats()
    a.count("XDP_TX", 1, 1)
    assert b.verdicts == {}
