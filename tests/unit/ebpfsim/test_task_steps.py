"""Steps of tasks: what people write becomes registers and user memory."""

import pytest

import ebpfsim
from ebpfsim.errors import InputError
from ebpfsim.task_steps import number, parse_step


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


def test_a_step_is_a_mapping_or_a_name() -> None:
    calls = {"getpid": None, "close": None}
    assert parse_step("getpid", calls).args == ()
    step = parse_step({"close": "$fd", "as": "result"}, calls)
    assert (step.call, step.args, step.name) == ("close", ("$fd",), "result")


@pytest.mark.parametrize(
    ("steps", "problem"),
    [([{"opennat": "/x"}], "did you mean 'openat'"), ([{}], "step has 0 calls"), ([7], "step 7 is no mapping"),
     ([{"read": 1}], "read has 1 arguments"), ([{"openat": ["/x", "O_RDNLY"]}], "did you mean 'O_RDONLY'"),
     ([{"close": "$fd"}], r"'\$fd' is no result"), ([{"close": [{}]}], "is no number and no text")],
)  # fmt: skip
def test_mistakes(host: ebpfsim.Host, steps: list[object], problem: str) -> None:
    def run() -> None:
        host.spawn("x", steps=steps)
        host.sim.run()

    with pytest.raises(InputError, match=problem):
        run()
