"""CUBIC's arithmetic (RFC 9438, 4; net/ipv4/tcp_cubic.c)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.tcp_cubic import BETA, BETA_SCALE, CUBE_FACTOR, CUBE_RTT_SCALE, cubic_root


@given(st.integers(1, 1 << 40))
def test_the_root_is_nearly_exact(number: int) -> None:
    # "Avg err ~= 0.195%" stands over cubic_root(); small numbers come from a table
    assert abs(cubic_root(number) - number ** (1 / 3)) <= max(1.2, 0.01 * number ** (1 / 3))


def test_constants() -> None:
    # beta 0.7 and C 0.4: RFC 9438, 4.6 and 5.1; what the kernel makes of them when it starts
    assert pytest.approx(BETA / 1024, abs=0.001) == 0.7
    assert BETA_SCALE == 15
    assert CUBE_RTT_SCALE == 410
    assert CUBE_FACTOR == (1 << 40) // 410
    # C = CUBE_RTT_SCALE / 2**10
    assert pytest.approx(CUBE_RTT_SCALE / 1024, abs=0.001) == 0.4
