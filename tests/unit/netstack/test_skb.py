import pytest

from netstack.skb import skb_truesize


@pytest.mark.parametrize(
    ("size", "truesize"),
    # a small datagram as recorded (netif_rx_entry of events/udp_sendto_veth.txt), a full Ethernet frame
    [(29, 960), (33, 960), (1514, 2304)],
)
def test_truesize(size, truesize) -> None:
    assert skb_truesize(size) == truesize
