"""``struct sock`` of tasks' sockets: who is asked when it is made and goes (recordings udp_socket, udp_close)."""

from collections.abc import Callable
from typing import Any

from socket_machine import AF_INET, SOCK_DGRAM, SocketMachine

from ebpfsim.btf.view import place
from ebpfsim.errnos import Errno


def test_security_modules_may_refuse_its_memory() -> None:
    machine, seen = SocketMachine(), []
    machine.kernel.functions.site("bpf_lsm_sk_alloc_security").poke(lambda *_args: -Errno.ENOMEM)
    machine.run(lambda _task, call: seen.append(call("socket", AF_INET, SOCK_DGRAM, 0)))
    assert seen == [-Errno.ENOBUFS]


def test_what_is_called_when_it_is_made_and_freed() -> None:
    machine = SocketMachine()

    def what(_task: object, call: Callable[..., int]) -> None:
        machine.watch()
        call("socket", AF_INET, SOCK_DGRAM, 0)
        call("close", 3)

    machine.run(what)
    made = ["sk_alloc", "sk_prot_alloc", "security_sk_alloc", "cgroup_sk_alloc", "sock_init_data", "sock_init_data_uid"]
    freed = ["__sk_free", "sk_destruct", "__sk_destruct", "bpf_sk_storage_free", "cgroup_sk_free", "security_sk_free"]
    assert [name for name in machine.calls if name in made + freed] == made + freed


def test_members_lead_from_one_to_the_other() -> None:
    machine, seen = SocketMachine(), list[Any]()

    def what(_task: object, call: Callable[..., int]) -> None:
        call("socket", AF_INET, SOCK_DGRAM, 0)
        mem, sockfs = machine.kernel.mem, machine.kernel.sockfs
        (socket,) = {each.address: each for each in sockfs._by_address.values()}.values()

        def member(name: str) -> int:
            offset, size = place("sock", name)
            return mem.load(socket.struct.sk + offset, size)

        seen.append((member("sk_socket") == socket.address, member("sk_wq") == socket.wait.address, member("sk_uid")))

    machine.run(what, uid=1000)
    assert seen == [(True, True, 1000)]
