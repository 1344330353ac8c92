"""Steps of tasks: what people write becomes registers and user memory."""

import pytest

import ebpfsim
from ebpfsim.errors import InputError
from ebpfsim.task_steps import number, parse_step, step_problems


@pytest.fixture
def host() -> ebpfsim.Host:
    return ebpfsim.Simulation(seed=1).host("h")


# bits of asm-generic/fcntl.h
@pytest.mark.parametrize(
    ("value", "number_"),
    [("O_CREAT|O_RDWR", 0o102), ("O_RDONLY", 0), ("O_WRONLY | O_APPEND", 0o2001), ("0x10", 16), (7, 7), ("-1", -1)],
)
def test_constants(value: int | str, number_: int) -> None:
    assert number(value) == number_


def test_a_step_is_a_mapping_or_a_name(host: ebpfsim.Host) -> None:
    calls = host.kernel.syscalls.table
    assert parse_step("getpid", calls).args == ()
    step = parse_step({"close": "$fd", "as": "result"}, calls)
    assert (step.call, step.args, step.name) == ("close", ("$fd",), "result")


# what is wrong -> where in the step, and what is said about it
MISTAKES: list[tuple[object, tuple[str | int, ...], str]] = [
    (7, (), "step 7 is no mapping"),
    ({}, (), "step has no call"),
    ({"opennat": "/x"}, ("opennat",), "unknown system call 'opennat'; did you mean 'openat'?"),
    ({"reboot": [2, 1]}, ("reboot",), "system call 'reboot' is not modelled"),
    ({"read": 1}, ("read",), "read has 1 argument, expected 2"),
    ({"socket": ["init"]}, ("socket", 0), "'init' is no number and no constant"),
    ({"bind": ["$fd", "10.0.0.1"]}, ("bind", 1), "'10.0.0.1' is no address with a port"),
    ({"connect": ["$fd", "::1:53"]}, ("connect", 1), "'::1:53' is no address with a port"),
    ({"sendto": ["$fd", "x", "10.0.0.1:65536"]}, ("sendto", 2), "'10.0.0.1:65536' is no address with a port"),
    ({"recv": [3]}, ("recv",), "recv has 1 argument, expected 2 to 3"),
    ({"openat": []}, ("openat",), "openat has 0 arguments, expected 1 to 3"),
    ({"getpid": [1]}, ("getpid",), "getpid has 1 argument, expected 0"),
    ({"openat": ["/x", "O_RDNLY"]}, ("openat", 1), "did you mean 'O_RDONLY'"),
    ({"close": "f"}, ("close",), "'f' is no number and no constant"),
    ({"creat": ["/x", "rw"]}, ("creat", 1), "'rw' is no number and no constant"),
    ({"close": "$fdd"}, ("close",), "'$fdd' is no result of an earlier step; did you mean 'fd'?"),
    ({"close": [{}]}, ("close", 0), "argument 'fd' of close is no number and no text"),
    ({"sleep": "5 years"}, ("sleep",), "duration '5 years' is not understood"),
    ({"write": ["$fd", 7]}, ("write", 1), "argument 'data' of write is text, have 7"),
    ({"read": ["$fd", 1 << 40]}, ("read", 1), "1099511627776 bytes are too many"),
    ({"close": "$fd", "ass": "x"}, ("ass",), "unknown key 'ass'; did you mean 'as'?"),
    ({"close": "$fd", "getpid": None}, ("getpid",), "step has two calls, 'close' and 'getpid'"),
    ({"getpid": None, "as": "my pid"}, ("as",), "'my pid' cannot name a result"),
]


def run(host: ebpfsim.Host, step: object) -> None:
    host.spawn("x", steps=[step])
    host.sim.run()


@pytest.mark.parametrize(("step", "path", "words"), MISTAKES)
def test_mistakes(host: ebpfsim.Host, step: object, path: tuple[str | int, ...], words: str) -> None:
    (problem,) = step_problems(step, host.kernel.syscalls.table, ["fd"])
    assert problem.path == path
    assert words in problem.problem
    # names of results come to light when the step runs
    with pytest.raises(InputError):
        run(host, step)


def test_what_linux_has_and_we_have_not_is_told_apart(host: ebpfsim.Host) -> None:
    (problem,) = step_problems({"io_uring_setup": [0]}, host.kernel.syscalls.table)
    assert problem.feature == "system call 'io_uring_setup'"


RIGHT: list[object] = [
    {"open": "/x"}, {"exec": "/bin/sh"}, {"exec": ["/bin/sh", "-c", "ls"]}, {"sleep": "1.5ms"}, "sched_yield",
    {"lseek": ["$fd", 0, "SEEK_END"]}, {"creat": ["/x", "0x180"]}, {"write": ["$fd", "text"]}, {"chdir": "O_NO"},
]  # fmt: skip


@pytest.mark.parametrize("step", RIGHT)
def test_right_steps(host: ebpfsim.Host, step: object) -> None:
    assert list(step_problems(step, host.kernel.syscalls.table, ["fd"])) == []


def test_sockets_of_two_tasks(host: ebpfsim.Host) -> None:
    server = host.spawn(
        "server",
        steps=[
            {"socket": ["inet", "dgram"], "as": "s"}, {"bind": ["$s", "127.0.0.1:53"]}, {"recv": ["$s", 64]},
            {"recv": ["$s", 2]}, {"close": "$s"},
        ],
    )  # fmt: skip
    client = host.spawn(
        "client",
        steps=[
            {"sleep": "1ms"}, {"socket": "inet", "as": "s"}, {"connect": ["$s", "127.0.0.1:53"]},
            {"send": ["$s", "hello"]}, {"sendto": ["$s", "abc", "127.0.0.1:53"]}, {"recv": ["$s", 8, "MSG_DONTWAIT"]},
        ],
    )  # fmt: skip
    host.sim.run()
    assert [result.retval for result in server.results] == [3, 0, 5, 2, 0]
    assert [result.retval for result in client.results] == [0, 3, 0, 5, 3, -11]
