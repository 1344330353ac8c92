"""Calls of functions of the kernel by their names."""

import pytest
from task_programs import Lab

from ebpfsim.errors import InputError, KernelOops
from ebpfsim.uapi.bpf import AttachType as A

ARGUMENT = "r7 = *(u64 *)(r1 + {at}); "


@pytest.fixture
def lab() -> Lab:
    return Lab()


def test_what_is_attached_runs(lab) -> None:
    # int mutex_lock_interruptible(struct mutex *lock): nothing in this model calls it
    lab.trace(A.TRACE_FENTRY, "mutex_lock_interruptible", ARGUMENT.format(at=0) + lab.keep(0))
    assert lab.host.kernel.functions.silent == ["mutex_lock_interruptible"]
    assert lab.host.call("mutex_lock_interruptible", {"lock": 77}) == 0
    assert lab.value(0) == 77
    assert lab.host.call("mutex_lock_interruptible", [78]) == 0
    assert lab.value(0) == 78


def test_functions_do_what_they_do(lab) -> None:
    assert lab.host.call("bpf_fentry_test2", {"b": 3, "a": 2}) == 5
    assert lab.host.call("bpf_fentry_test2", (4,)) == 4


def test_texts_are_passed_by_their_addresses(lab) -> None:
    lab.trace(
        A.TRACE_FENTRY, "kernel_read_file_from_path",
        "r3 = *(u64 *)(r1 + 0); *(u64 *)(r10 - 8) = 0; r1 = r10; r1 += -8; r2 = 8; "
        f"call bpf_probe_read_kernel_str; r7 = *(u64 *)(r10 - 8); {lab.keep(0)}",
    )  # fmt: skip
    lab.host.call("kernel_read_file_from_path", ["/etc"])
    assert lab.value(0).to_bytes(8, "little") == b"/etc" + bytes(4)


@pytest.mark.parametrize("function", ["netif_receive_skb", "tcp_v4_connect"])
def test_functions_of_the_stack_show_their_arguments(lab, function) -> None:
    lab.trace(A.TRACE_FENTRY, function, ARGUMENT.format(at=0) + lab.keep(0))
    lab.host.call(function, [0x1234])
    assert lab.value(0) == 0x1234


def test_mistakes(lab) -> None:
    with pytest.raises(InputError, match=r"no function 'mutex_lokc'; did you mean 'mutex_lock'"):
        lab.host.call("mutex_lokc")
    with pytest.raises(InputError, match=r"no argument 'lokc'; did you mean 'lock'"):
        lab.host.call("mutex_lock", {"lokc": 1})
    with pytest.raises(InputError, match="has 1 arguments, not 2"):
        lab.host.call("mutex_lock", [1, 2])
    with pytest.raises(InputError, match="nothing can be attached"):
        lab.host.call("__schedule")
    with pytest.raises(KernelOops, match="found nothing"):
        lab.host.call("wake_up_new_task", [1])
