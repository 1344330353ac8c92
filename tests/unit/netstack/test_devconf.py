"""Settings of devices: what ``all`` and a device's own value make together (Documentation/networking/ip-sysctl.rst)."""

import pytest

from ebpfsim.errors import NotModelled
from netstack.devconf import DEVICE_SETTINGS, DevConf, is_device_setting
from netstack.sysctl import read_sysctls


@pytest.mark.parametrize(
    ("name", "all_", "own", "together"),
    [
        # "The max value from conf/{all,interface}/rp_filter is used"
        ("rp_filter", 0, 1, 1), ("rp_filter", 2, 1, 2), ("rp_filter", 0, 0, 0),
        # "send_redirects for the interface will be enabled if at least one of conf/{all,interface} is set to TRUE"
        ("send_redirects", 1, 0, 1), ("send_redirects", 0, 0, 0), ("send_redirects", 0, 1, 1),
        # "conf/all/accept_source_route must also be set to TRUE to accept packets with SRR option on the interface"
        ("accept_source_route", 1, 0, 0), ("accept_source_route", 0, 1, 0), ("accept_source_route", 1, 1, 1),
        ("arp_ignore", 1, 2, 2),
    ],
)  # fmt: skip
def test_both_together(name: str, all_: int, own: int, together: int) -> None:
    values = read_sysctls({f"net.ipv4.conf.all.{name}": all_, f"net.ipv4.conf.eth0.{name}": own})
    assert getattr(DevConf.of(values, "eth0"), name) == together


def test_defaults() -> None:
    assert DevConf.of({}, "eth0") == (0, 0, 0, 1)
    assert DevConf.of(read_sysctls({"net.ipv4.conf.default.rp_filter": 1}), "eth5").rp_filter == 1
    assert DevConf._fields == tuple(sorted(DEVICE_SETTINGS))


def test_names() -> None:
    assert is_device_setting("net.ipv4.conf.eth0.7.rp_filter")
    assert not is_device_setting("net.ipv4.conf.rp_filter")
    with pytest.raises(NotModelled):
        read_sysctls({"net.ipv4.conf.eth0.proxy_arp": 1})
