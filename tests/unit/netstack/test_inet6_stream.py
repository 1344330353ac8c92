"""Stream sockets of AF_INET6: what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["inet6_stream"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("inet6_stream", name)
