import re

from ebpfsim.btf.types import Enum, Kind
from ebpfsim.btf.vmlinux import vmlinux
from netstack.drop_reasons import LINK_LOSS, MEANINGS, RX_MISSED, SkbDropReason, not_modelled


def test_reasons_are_those_of_the_kernels_btf() -> None:
    btf = vmlinux()
    enum = btf.type(btf.by_name("skb_drop_reason", Kind.ENUM))
    assert isinstance(enum, Enum)
    names = {
        re.sub("^SKB_DROP_REASON_|^SKB_(?=NOT_DROPPED_YET|CONSUMED)", "", row.name): row.value
        for row in enum.values
        if not row.name.endswith(("_MAX", "_MASK"))
    }
    assert {reason.name: reason.value for reason in SkbDropReason} == names


def test_not_modelled() -> None:
    assert not_modelled("IPv6") == "not modelled: IPv6"


def test_meanings_are_of_reasons_that_exist() -> None:
    known = {reason.name for reason in SkbDropReason} | {LINK_LOSS, RX_MISSED}
    assert set(MEANINGS) <= known
