"""The sysctls of TCP (Documentation/networking/ip-sysctl.rst, v6.18), as this machine's kernel has them."""

from pathlib import Path

import pytest

from ebpfsim.errors import InputError
from netstack.tcp_sysctl import TCP_SYSCTLS, TCP_TEXTS, read_triple

# distributions and containers choose these by themselves
CHOSEN = {"net.core.rmem_max", "net.core.wmem_max"}


@pytest.mark.live
@pytest.mark.parametrize("name", sorted({*TCP_SYSCTLS} - CHOSEN))
def test_default_of_this_kernel(name: str) -> None:
    path = Path("/proc/sys") / name.replace(".", "/")
    if not path.exists():
        pytest.skip("not in this namespace")
    assert int(path.read_text().split()[0]) == TCP_SYSCTLS[name]


def test_documented_defaults() -> None:
    # ip-sysctl.rst
    documented = {
        "tcp_retries2": 15, "tcp_syn_retries": 6, "tcp_synack_retries": 5, "tcp_keepalive_time": 7200, "tcp_ecn": 2,
        "tcp_keepalive_intvl": 75, "tcp_keepalive_probes": 9, "tcp_fin_timeout": 60, "tcp_reordering": 3, "tcp_sack": 1,
        "tcp_early_retrans": 3, "tcp_max_reordering": 300, "tcp_invalid_ratelimit": 500, "tcp_min_rtt_wlen": 300,
    }  # fmt: skip
    assert {name: TCP_SYSCTLS[f"net.ipv4.{name}"] for name in documented} == documented


def test_sizes_of_buffers() -> None:
    assert read_triple({}, "net.ipv4.tcp_rmem") == (4096, 131072, 33554432)
    assert read_triple({"net.ipv4.tcp_wmem": "1 2 3"}, "net.ipv4.tcp_wmem") == (1, 2, 3)
    with pytest.raises(InputError, match="is not three numbers"):
        read_triple({"net.ipv4.tcp_rmem": "4096"}, "net.ipv4.tcp_rmem")
    assert set(TCP_TEXTS) == {"net.ipv4.tcp_congestion_control", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
