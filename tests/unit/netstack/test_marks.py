"""Functions that nobody implements further: they are of the kernel, and are called nested as recorded."""

import pytest

from netstack.functions import stack_functions
from netstack.marks import FUNCTION_TABLE, MARKS, kinds_of, result_of, touch
from tracing.functions import kernel_model


@pytest.mark.parametrize("name", sorted(MARKS))
def test_marks_are_functions_of_the_kernel(name) -> None:
    assert len(kinds_of(name)) == kernel_model(name).nr_words
    assert all(inside in stack_functions() for inside in MARKS[name])


def test_arguments_are_found_by_their_structures() -> None:
    assert kinds_of("skb_clone_tx_timestamp") == ("sk_buff",)
    assert kinds_of("netdev_core_pick_tx") == ("net_device", "sk_buff", "net_device")
    assert result_of("skb_clone") == "sk_buff"


def test_inner_functions_get_what_the_outer_ones_got(lab) -> None:
    net, _ = lab.pair()
    calls = []
    for name in ("xfrm_lookup_route", "xfrm_lookup_with_ifid"):
        original = net.functions.__dict__[name]

        def call(cpu, *args, name=name, original=original):
            calls.append((name, args[0], args[3]))
            return original(cpu, *args)

        net.functions.__dict__[name] = call
    sock = net.udp_socket()
    touch(net.cpus[0], "xfrm_lookup_route", net=net, sock=sock)
    assert calls == [("xfrm_lookup_route", net, sock), ("xfrm_lookup_with_ifid", net, sock)]


def test_what_is_no_pointer_is_zero(lab) -> None:
    net, _ = lab.pair()
    seen = []
    net.functions.__dict__["ipv4_mtu"] = lambda _cpu, *args: seen.append(args)
    touch(net.cpus[0], "ipv4_mtu", sk_buff="not its own")
    assert seen == [(0,)]
    assert FUNCTION_TABLE["fib_lookup_good_nhc"](net.cpus[0], 0, 0, 0) == 1
