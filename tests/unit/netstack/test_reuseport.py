"""Groups of SO_REUSEPORT: the hash, programs, leaving. What Linux does beside it is in test_sk_lookup.py."""

import sys
from pathlib import Path

import pytest

from ebpfsim.errors import KernelError

sys.path.insert(0, str(Path(__file__).parent))
from sk_lookup_steps import Simulated


def test_hash_spreads_over_a_group() -> None:
    machine = Simulated()
    for name in "abc":
        machine.socket(name, "127.0.0.1", 7, True)
    clients = [machine.host.udp_socket("127.0.0.1", port) for port in range(5000, 5060)]
    for _ in range(2):
        for client in clients:
            client.sendto(b"x", "127.0.0.1", 7)
        machine.host.sim.run()
    counts = [len(sock.received) for sock in machine.socks.values()]
    assert sum(counts) == 120
    # every flow has its socket, and each socket some flows
    assert all(count % 2 == 0 and count > 20 for count in counts)


def test_runs_are_counted() -> None:
    machine = Simulated()
    machine.socket("a", "127.0.0.1", 7, True)
    machine.attach("a", machine.host.bpf.prog_load(21, bytes.fromhex("b7000000000000009500000000000000")).fd)
    assert machine.send("127.0.0.1", 7) == []
    group = machine.socks["a"].reuseport_group
    assert group is not None
    assert group.stats.verdicts == {"SK_DROP": 1}
    machine.socks["a"].detach_reuseport_bpf()
    assert machine.send("127.0.0.1", 7) == ["a"]
    with pytest.raises(KernelError, match="ENOENT"):
        machine.socks["a"].detach_reuseport_bpf()
    with pytest.raises(KernelError, match="EINVAL"):
        machine.out.detach_reuseport_bpf()
