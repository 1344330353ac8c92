"""The sysctls of TCP with Linux' defaults (Documentation/networking/ip-sysctl.rst; measured on Linux 6.18)."""

from collections.abc import Mapping

from ebpfsim.errors import InputError

__all__ = ["TCP_SYSCTLS", "TCP_TEXTS", "read_triple"]

# fmt: off
TCP_SYSCTLS: dict[str, int] = {
    "net.core.rmem_max":                        4194304,
    "net.core.somaxconn":                       4096,
    "net.core.wmem_max":                        4194304,
    "net.ipv4.tcp_comp_sack_delay_ns":          1000000,
    "net.ipv4.tcp_comp_sack_nr":                44,
    "net.ipv4.tcp_dsack":                       1,
    "net.ipv4.tcp_early_retrans":               3,
    "net.ipv4.tcp_ecn":                         2,
    "net.ipv4.tcp_fin_timeout":                 60,
    "net.ipv4.tcp_frto":                        2,
    "net.ipv4.tcp_invalid_ratelimit":           500,
    "net.ipv4.tcp_keepalive_intvl":             75,
    "net.ipv4.tcp_keepalive_probes":            9,
    "net.ipv4.tcp_keepalive_time":              7200,
    "net.ipv4.tcp_max_reordering":              300,
    "net.ipv4.tcp_max_syn_backlog":             2048,
    "net.ipv4.tcp_min_rtt_wlen":                300,
    "net.ipv4.tcp_min_snd_mss":                 48,
    "net.ipv4.tcp_min_tso_segs":                2,
    "net.ipv4.tcp_moderate_rcvbuf":             1,
    "net.ipv4.tcp_orphan_retries":              0,
    "net.ipv4.tcp_pacing_ca_ratio":             120,
    "net.ipv4.tcp_pacing_ss_ratio":             200,
    "net.ipv4.tcp_pingpong_thresh":             1,
    "net.ipv4.tcp_recovery":                    1,
    "net.ipv4.tcp_reordering":                  3,
    "net.ipv4.tcp_retries2":                    15,
    "net.ipv4.tcp_rfc1337":                     0,
    "net.ipv4.tcp_rto_min_us":                  200000,
    "net.ipv4.tcp_sack":                        1,
    "net.ipv4.tcp_slow_start_after_idle":       1,
    "net.ipv4.tcp_syn_linear_timeouts":         4,
    "net.ipv4.tcp_syn_retries":                 6,
    "net.ipv4.tcp_syncookies":                  1,
    "net.ipv4.tcp_synack_retries":              5,
    "net.ipv4.tcp_timestamps":                  1,
    "net.ipv4.tcp_tso_rtt_log":                 9,
    "net.ipv4.tcp_tso_win_divisor":             3,
    "net.ipv4.tcp_window_scaling":              1,
}
# fmt: on
# those that are no single number
TCP_TEXTS: dict[str, str] = {
    "net.ipv4.tcp_congestion_control": "cubic",
    "net.ipv4.tcp_rmem": "4096 131072 33554432",
    "net.ipv4.tcp_wmem": "4096 16384 4194304",
}


def read_triple(settings: Mapping[str, int | str], name: str) -> tuple[int, int, int]:
    """Return the least, the first and the greatest size of a buffer."""
    text = str(settings.get(name, TCP_TEXTS[name]))
    words = text.split()
    if len(words) != 3 or not all(word.isdecimal() for word in words):
        raise InputError("", f"sysctl {name}: {text!r} is not three numbers", TCP_TEXTS[name])
    least, first, most = map(int, words)
    return least, first, most
