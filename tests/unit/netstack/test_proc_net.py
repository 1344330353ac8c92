"""/proc/net: rows as Linux 6.18 wrote them for the same sockets."""

import pytest
from proc_files import ProcTasks

# of a socket that listens on 127.0.0.1:5354, the ends of a connection to it, and a UDP socket on 127.0.0.1:5353:
# columns that do not depend on who asks when
LISTEN = "0100007F:14EA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0"
UDP = "0100007F:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0"
HEADER_BYTES = {"tcp": 150, "udp": 128}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    tasks = ProcTasks()

    def look(tasks: ProcTasks) -> dict[str, str]:
        def name(port: int) -> bytes:
            return (2).to_bytes(2, "little") + port.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)

        listener, udp, other = (tasks.call("socket", 2, kind, 0) for kind in (1, 2, 1))
        tasks.call("bind", listener, name(5354), 16)
        tasks.call("listen", listener, 7)
        tasks.call("bind", udp, name(5353), 16)
        tasks.call("connect", other, name(5354), 16)
        return {each: str(tasks.text(f"net/{each}")) for each in tasks.names("net")}

    found: dict[str, str] = tasks.see(look)
    return found


def test_sockets(texts: dict[str, str]) -> None:
    listener, *ends = texts["tcp"].splitlines()[1:]
    assert listener.startswith(f"   0: {LISTEN} ")
    # rto, ato, quick acks, window, threshold
    assert listener.split()[-5:] == ["100", "0", "0", "10", "0"]
    assert [end.split()[3] for end in ends] == ["01", "01"]
    assert sorted(end.split()[1] for end in ends) == sorted(end.split()[2] for end in ends)
    (udp,) = texts["udp"].splitlines()[1:]
    assert udp.startswith(f"    0: {UDP} ")
    for kind, size in HEADER_BYTES.items():
        assert {len(line) for line in texts[kind].splitlines(keepends=True)} == {size}


def test_devices(texts: dict[str, str]) -> None:
    first, second, loopback = texts["dev"].splitlines()
    assert (len(first), len(second)) == (76, 122)
    assert loopback.startswith("    lo: ")
    assert len(loopback) == 122
    received = loopback.split()[1:3]
    assert received == loopback.split()[9:11]
    assert int(received[1]) == 3


def test_counters(texts: dict[str, str]) -> None:
    names, values = (line.split() for line in texts["snmp"].splitlines() if line.startswith("Tcp:"))
    counters = dict(zip(names, values, strict=True))
    assert names[1:5] == ["RtoAlgorithm", "RtoMin", "RtoMax", "MaxConn"]
    assert (counters["MaxConn"], counters["CurrEstab"], counters["ActiveOpens"]) == ("-1", "2", "1")
    assert names[8:10] == ["EstabResets", "CurrEstab"]
    assert texts["netstat"].startswith("TcpExt: SyncookiesSent ")
