import pytest

from netstack.skb import skb_truesize


@pytest.mark.parametrize(
    ("size", "truesize"),
    # known of Linux on x86-64 with 4 KiB pages: a small UDP datagram 768, a full Ethernet frame 2304
    [(29, 768), (42, 768), (1514, 2304)],
)
def test_truesize(size, truesize) -> None:
    assert skb_truesize(size) == truesize
