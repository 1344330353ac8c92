"""sendmsg(2), recvmsg(2) and their kin: what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["socket_msg"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("socket_msg", name)
