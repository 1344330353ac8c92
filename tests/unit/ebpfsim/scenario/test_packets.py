"""Packet strings: what they may say, and that nothing in them is ever executed."""

import builtins
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsim.scenario.packets import PacketError, PacketExpr

# the text with ¦ before the place, and a part of the message
REFUSED = [
    ("¦__import__('os').system('true')", "attribute access is not allowed in a packet string"),
    ("¦__import__('os')", "unknown layer '__import__'"),
    ("Ether()/IP(dst=¦open('/etc/passwd').read())", "attribute access"),
    ("Ether()/IP(dst=¦eval('1'))", "unknown layer 'eval'"),
    ("¦lambda: 1", "a lambda"),
    ("¦[x for x in (1, 2)]", "a comprehension"),
    ("Ether()/¦{i: i for i in (1,)}", "a comprehension"),
    ("¦f'{1}'", "an f-string"),
    ("(¦a := 1)", "an assignment"),
    ("¦Ether()[0]", "indexing"),
    ("Ether()/IP(dst=¦{'a': 1})", "a dictionary"),
    ("Ether()/(¦1 if 1 else 2)", "a condition"),
    ("¦Ether() and IP()", "'and' and 'or'"),
    ("¦Ether() < IP()", "a comparison"),
    ("Ether()¦+IP()", "operator '+'"),
    ("Ether()/Raw(load='x'*2¦**30)", "operator '**'"),
    ("Ether()/IP(**¦{})", "'**' is not allowed"),
    ("¦Ether()()", "calling a result"),
    ("¦Ether/IP()", "layer 'Ether' without parentheses"),
    ("¦Etherr()", "unknown layer 'Etherr'; did you mean 'Ether'?"),
    ("Ether()/IP(¦ttll=5)", "IP has no field 'ttll'; did you mean 'ttl'?"),
    ("Ether()/IP(ttl=¦300)", "field 'ttl' of IP: 300 does not fit in 8 bits"),
    ("Ether()/IP(ihl=¦16)", "field 'ihl' of IP: 16 does not fit in 4 bits"),
    ("Ether()/IP(ttl=¦'x')", "field 'ttl' of IP: cannot be 'x'"),
    ("Ether()/IP(ttl=¦1.5)", "1.5 is not a whole number"),
    ("Ether()/IP(dst=¦'localhost')", "'localhost' is not an IPv4 address"),
    ("Ether()/IP(dst=¦'fd00::1')", "'fd00::1' is not an IPv4 address"),
    ("Ether()/IPv6(dst=¦'10.0.0.1')", "'10.0.0.1' is not an IPv6 address"),
    ("Ether()/IP(dst=¦'10.0.0.0/8')", "stands for more than 10000 packets"),
    ("Ether(dst=¦'xyz')", "'xyz' is not a MAC address"),
    ("Ether()/UDP(dport=¦'domain')", "names differ between machines"),
    ("Ether()/TCP(flags=¦'XY')", "unknown flags 'XY'"),
    ("Ether()/IP(ttl=1, ¦ttl=2)", "field 'ttl' of IP is given twice"),
    ("Ether()/IP(¦'10.0.0.1')", "IP takes fields by name"),
    ("Ether()/¦5", "'/' needs a layer, text or bytes on its right, not 5"),
    ("¦5/Ether()", "'/' needs a layer on its left"),
    ("¦'text'", "a packet string starts with a layer"),
    ("¦Ether()*20000", "repetition makes 20000 packets, at most 10000 are allowed"),
    ("Ether()/(¦'x'*70000)", "repetition makes 70000 bytes, at most 65535 are allowed"),
    ("Ether()/(¦'x'*-1)", "cannot repeat -1 times"),
    ("Ether()/(¦'x'*'y')", "'*' repeats text, bytes or a packet a number of times"),
    ("¦fuzz()", "fuzz takes one packet"),
    ("fuzz(¦'x')", "fuzz takes a packet, not 'x'"),
    ("¦", "packet string is empty"),
    ("¦ ", "packet string is empty"),
    ("Ether()/¦...", "this kind of value is not allowed"),
    ("UDP(dport=¦1j)", "this kind of value is not allowed"),
    ("IP(options=¦5)", "field 'options' of IP: expected a list, have 5"),
    ("IP(options=¦[5])", "field 'options' of IP: expected layers, have 5"),
    ("DNS(qd=¦'x')", "field 'qd' of DNS: expected a list, have 'x'"),
    ("TCP(options=¦[5])", "field 'options' of TCP: an option is a name and a value"),
    ("TCP(options=¦[('MMS', 1460)])", "field 'options' of TCP: unknown option 'MMS'; did you mean 'MSS'?"),
]


@pytest.mark.parametrize(("marked", "message"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_at_its_place(marked: str, message: str) -> None:
    before, _, after = marked.partition("¦")
    with pytest.raises(PacketError) as caught:
        PacketExpr(before + after)
    assert message in caught.value.problem
    assert caught.value.start == len(before)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000 + ")" * 5000, "Ether()/" * 500 + "IP()", "-" * 3000 + "1", "Ether()" + "/IP()" * 790, "x" * 5000],
)
def test_monsters_are_refused_quickly(text: str) -> None:
    with pytest.raises(PacketError):
        PacketExpr(text)


def test_nothing_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    for module, name in ((builtins, "eval"), (builtins, "exec"), (os, "system")):
        monkeypatch.setattr(module, name, lambda *args, **_kwargs: called.append(args))
    for text in ("eval('1')", "exec('1')", "__import__('os').system('1')", "Ether()/IP(dst=eval('1'))"):
        with pytest.raises(PacketError):
            PacketExpr(text)
    assert called == []


@pytest.mark.parametrize(
    "text",
    [
        "Ether()/IP(dst='10.0.0.2')/UDP(dport=53)/'x'",
        " Ether() / IP(dst='10.0.0.2') / UDP() / b'\\x00\\xff' ",
        "Ether()/Dot1Q(vlan=5)/IPv6(dst='fd00::2')/TCP(flags='SA', options=[('MSS', 1460), ('NOP', None)])",
        "Ether()/ARP(op='who-has', pdst='10.0.0.2')",
        "Ether()/IP(dst=['10.0.0.2', '10.0.0.3'])/UDP(dport=(1, 5))/('ab'*3)",
        "Ether()/IP(dst='10.0.0.2')/UDP()/DNS(rd=1, qd=DNSQR(qname='example.org'))",
        "fuzz(Ether()/IP(dst='10.0.0.2')/UDP())",
        "Ether()/\nIP(dst='10.0.0.2')\n/ICMP(type='echo-request')",
        "3*(Ether()/IP(dst='10.0.0.2'))",
        "Raw('x'*60)",
    ],
)
def test_allowed(text: str) -> None:
    assert PacketExpr(text).templates()


def test_random_parts_are_known() -> None:
    assert PacketExpr("Ether()/fuzz(IP())").random
    assert not PacketExpr("Ether()/IP()").random


@given(st.text(alphabet="EtherIPUD()/*'\"xds=,.0123456789[]{}:_-+ \n\\", max_size=40))
def test_any_text_is_a_packet_or_one_error(text: str) -> None:
    found: PacketError | None = None
    try:
        PacketExpr(text)
    except PacketError as error:
        found = error
    assert found is None or (found.problem and 0 <= found.start <= len(text))
