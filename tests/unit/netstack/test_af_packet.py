"""What tasks do with packet sockets: what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["af_packet"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("af_packet", name)
