"""setsockopt(2) and getsockopt(2): what Linux 6.18 answered."""

import pytest
import socket_cases


@pytest.mark.parametrize("name", socket_cases.CASES["sock_options"])
def test_answers_are_those_of_linux(name: str) -> None:
    assert not socket_cases.differences("sock_options", name)
