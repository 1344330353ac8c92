"""bpf_mprog against a plain model of order: a list, and positions in words (kernel/bpf/mprog.c)."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ebpfsim.errors import KernelError
from ebpfsim.progs.prog import Prog
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.uapi.flags import BPF_F_AFTER, BPF_F_BEFORE, BPF_F_REPLACE
from hooks.mprog import Mprog

OPS = st.lists(
    st.tuples(
        st.sampled_from(["first", "last", "before", "after", "replace", "detach"]), st.integers(0, 9), st.integers(0, 9)
    ),
    max_size=40,
)


@given(OPS)
def test_any_sequence_leaves_the_order_of_a_list(
    new_kernel: Callable[[], Any], new_prog: Callable[..., Prog], ops: list[tuple[str, int, int]]
) -> None:
    kernel, place = new_kernel(), Mprog()
    progs = [new_prog(f"p{n}", type=ProgType.SCHED_CLS) for n in range(10)]
    for prog in progs:
        kernel.progs.add(prog)
    fds = [kernel.fds.install(prog) for prog in progs]
    model: list[Prog] = []
    changes = 0
    for what, one, other in ops:
        prog, rel = progs[one], progs[other]
        expected = list(model)
        fails = (prog in model) != (what == "detach")
        match what:
            case "first":
                expected.insert(0, prog)
            case "last":
                expected.append(prog)
            case "detach":
                expected = [each for each in model if each is not prog]
            case _ if rel not in model or fails:
                fails = True
            case "before":
                expected.insert(model.index(rel), prog)
            case "after":
                expected.insert(model.index(rel) + 1, prog)
            case "replace":
                expected[model.index(rel)] = prog
        flags = {"first": BPF_F_BEFORE, "before": BPF_F_BEFORE, "after": BPF_F_AFTER, "replace": BPF_F_REPLACE}
        try:
            if what == "detach":
                place.detach("op", kernel, prog)
            elif what == "replace":
                place.attach("op", kernel, prog, replace=rel, flags=BPF_F_REPLACE)
            else:
                place.attach(
                    "op",
                    kernel,
                    prog,
                    flags=flags.get(what, 0),
                    id_or_fd=fds[other] if what in ("before", "after") else 0,
                )
        except KernelError:
            assert fails, (what, one, other)
        else:
            assert not fails, (what, one, other)
            model, changes = expected, changes + 1
        assert [item.prog for item in place.items] == model
        assert place.revision == 1 + changes
    assert [prog.refs for prog in progs] == [1 + (prog in model) for prog in progs]
    place.clear()
    assert {prog.refs for prog in progs} == {1}


@pytest.mark.parametrize(("revision", "errno"), [(0, ""), (1, ""), (2, "ESTALE")])
def test_revision_that_is_expected(
    new_kernel: Callable[[], Any], new_prog: Callable[..., Prog], revision: int, errno: str
) -> None:
    place = Mprog()
    if errno:
        with pytest.raises(KernelError, match=errno):
            place.attach("op", new_kernel(), new_prog(), revision=revision)
    else:
        place.attach("op", new_kernel(), new_prog(), revision=revision)
        assert place.query().revision == 2
