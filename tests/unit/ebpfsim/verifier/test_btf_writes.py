"""Writes into the kernel's structures: the rules of net/ipv4/bpf_tcp_ca.c and net/bpf/bpf_dummy_struct_ops.c."""

import pytest

from ebpfsim.btf.layout import member_place
from ebpfsim.btf.types import Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.uapi.bpf import ProgType
from ebpfsim.verifier.attach import check_attach_btf_id
from ebpfsim.verifier.btf_writes import check_struct_write
from ebpfsim.verifier.btfid import BtfId
from ebpfsim.verifier.env import Env, LoadAttr, Reject


class NoMaps:
    nr_cpus = 1

    def map_by_fd(self, fd: int) -> None:
        return None


def struct(name: str) -> BtfId:
    return BtfId(vmlinux(), vmlinux().by_name(name, Kind.STRUCT))


def env_for(ops: str) -> Env:
    env = Env(LoadAttr(ProgType.STRUCT_OPS, (), attach_btf_id=struct(ops).id, log_level=2), NoMaps())
    check_attach_btf_id(env)
    return env


def at(name: str, path: str) -> int:
    return member_place(vmlinux(), struct(name).id, path).bit_off // 8


@pytest.mark.parametrize(
    ("place", "size"), [("snd_cwnd", 4), ("snd_ssthresh", 4), ("inet_conn.icsk_ca_priv", 8), ("app_limited", 2)]
)
def test_a_congestion_control_writes_its_members(place: str, size: int) -> None:
    check_struct_write(env_for("tcp_congestion_ops"), struct("tcp_sock"), at("tcp_sock", place), size)


def test_not_beyond_them() -> None:
    env, off = env_for("tcp_congestion_ops"), at("tcp_sock", "snd_cwnd")
    with pytest.raises(Reject):
        check_struct_write(env, struct("tcp_sock"), off, 8)
    ended = f"beyond the member of tcp_sock ended at {off + 4}\n"
    assert str(env.log) == f"write access at off {off} with size 8 {ended}"


@pytest.mark.parametrize(
    ("ops", "name", "off", "size", "text"),
    [
        ("tcp_congestion_ops", "tcp_sock", 0, 4, "no write support to tcp_sock at off 0\n"),
        ("tcp_congestion_ops", "socket", 0, 4, "only read is supported\n"),
        ("bpf_dummy_ops", "bpf_dummy_ops_state", 4, 4, "write access at off 4 with size 4\n"),
    ],
)
def test_elsewhere_nothing_is_written(ops: str, name: str, off: int, size: int, text: str) -> None:
    env = env_for(ops)
    with pytest.raises(Reject):
        check_struct_write(env, struct(name), off, size)
    assert str(env.log) == text


def test_the_state_of_the_dummy_is_one_number() -> None:
    check_struct_write(env_for("bpf_dummy_ops"), struct("bpf_dummy_ops_state"), 0, 4)
