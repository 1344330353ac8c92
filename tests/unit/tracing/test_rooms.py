"""The modules with functions and system calls of the kernel."""

from pathlib import Path

import tracing
from tracing.rooms import FUNCTION_ROOMS, SYSCALL_ROOMS
from tracing.syscalls import syscall_table

# functions that other places of the kernel take by themselves
ELSEWHERE = {"bpf_test_run", "functions", "hrtimer", "irq", "lsm", "sched_functions", "perf_event", "storage"}


def test_every_module_with_functions_is_named() -> None:
    folder = Path(tracing.__file__).parent
    marked = {path.stem for path in folder.glob("*.py") if "\n@kernel_function" in path.read_text()}
    named = {module.__name__.rpartition(".")[2] for module in FUNCTION_ROOMS}
    assert marked - ELSEWHERE == named & marked
    assert set(SYSCALL_ROOMS) <= set(FUNCTION_ROOMS)


def test_calls_have_the_numbers_of_linux() -> None:
    numbers = [row.nr for row in syscall_table(SYSCALL_ROOMS).values()]
    assert len(numbers) == len(set(numbers))
    assert max(numbers) < 470
