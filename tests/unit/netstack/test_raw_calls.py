"""What tasks do with raw sockets: what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["raw_calls"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("raw_calls", name)
