"""read(2), write(2), poll(2), epoll(7) and ioctl(2) of sockets: what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["socket_file"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("socket_file", name)
