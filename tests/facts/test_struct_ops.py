"""Facts about struct_ops, observed on Linux 6.12; a live kernel is asked where nothing gets registered."""

import struct

import pytest

from ebpfsim.btf.btf import Btf
from ebpfsim.btf.encode import BtfBuilder
from ebpfsim.btf.layout import member_place, sizeof
from ebpfsim.btf.types import Int, Kind
from ebpfsim.btf.vmlinux import vmlinux
from ebpfsim.errors import KernelError
from ebpfsim.isa.asm import assemble
from ebpfsim.isa.insn import encode
from ebpfsim.uapi import flags as f
from ebpfsim.uapi.bpf import AttachType, BpfCmd, MapType, ProgType

INIT, INUSE, TOBEFREE, READY = range(4)
BUILT_IN = ["reno", "cubic"]
KEY = bytes(4)
OPS_OFF = 64  # of data in struct bpf_struct_ops_tcp_congestion_ops
MEMBERS = {"ssthresh": 2, "undo_cwnd": 3, "cong_avoid": 0}
LIVE_BTF = "/sys/kernel/btf/vmlinux"


class Tables:
    """Programs and maps of one kernel: ``make`` returns a map and what it takes."""

    def __init__(self, bpf, btf: Btf) -> None:
        builder = BtfBuilder()
        builder.add(Int("int", 4, 32))
        self.bpf, self.btf, self.btf_fd = bpf, btf, bpf.btf_load(builder.build())

    def prog(self, member: str, code: str = "r0 = 0; exit", ops: str = "tcp_congestion_ops", **attributes) -> int:
        struct_id = self.btf.by_name(ops, Kind.STRUCT)
        number = [each.name for each in self.btf.type(struct_id).members].index(member)
        return self.bpf.prog_load(
            ProgType.STRUCT_OPS, encode(assemble(code)), attach_btf_id=struct_id, expected_attach_type=number,
            **attributes,
        ).fd  # fmt: skip

    def map(self, flags: int = 0, ops: str = "tcp_congestion_ops", name: str = "") -> int:
        number = self.btf.by_name(f"bpf_struct_ops_{ops}", Kind.STRUCT)
        types = {"btf_fd": self.btf_fd, "btf_vmlinux_value_type_id": number}
        size = sizeof(self.btf, number)
        return self.bpf.map_create(MapType.STRUCT_OPS, 4, size, 1, map_flags=flags, name=name, **types)

    def value(self, name: str = "bpf_cc", members: dict[str, int] | None = None, **data: int) -> bytes:
        members = dict(MEMBERS) if members is None else members
        programs = {member: self.prog(member, f"r0 = {ret}; exit") for member, ret in members.items()}
        value = bytearray(256)
        for member, number in (programs | data).items():
            place = member_place(self.btf, "tcp_congestion_ops", member)
            at, size = OPS_OFF + place.bit_off // 8, sizeof(self.btf, place.type_id)
            value[at : at + size] = number.to_bytes(size, "little")
        at = OPS_OFF + member_place(self.btf, "tcp_congestion_ops", "name").bit_off // 8
        value[at : at + 16] = name.encode().ljust(16, b"\0")
        return bytes(value)

    def make(self, name: str = "bpf_cc", flags: int = 0, **members: int) -> int:
        fd = self.map(flags)
        self.bpf.map_update_elem(fd, KEY, self.value(name, **members))
        return fd

    def state(self, fd: int) -> tuple[int, int]:
        """Return refcnt and state."""
        return struct.unpack_from("<II", self.bpf.map_lookup_elem(fd, KEY))


@pytest.fixture(params=["jit", "interp"])
def host(make_kernel, request):
    return make_kernel(engine=request.param)


@pytest.fixture
def ours(host) -> Tables:
    return Tables(host.bpf, vmlinux())


@pytest.fixture
def both(bpf, request) -> Tables:
    """Tables of the simulated kernel and of the live one, on which nothing may be registered."""
    if "live" not in request.node.callspec.id:
        return Tables(bpf, vmlinux())
    with open(LIVE_BTF, "rb") as file:
        return Tables(bpf, Btf(file.read()))


def dmesg(host) -> list[str]:
    return [note.text for note in host.recorder.notes if note.kind == "dmesg"]


def test_states_of_a_map_that_registers_itself(host, ours) -> None:
    fd = ours.map()
    assert ours.state(fd) == (0, INIT)
    host.bpf.map_update_elem(fd, KEY, ours.value())
    assert ours.state(fd) == (1, INUSE)
    socket = host.tcp_ca.assign("bpf_cc")
    assert ours.state(fd) == (2, INUSE)
    host.bpf.map_delete_elem(fd, KEY)
    assert ours.state(fd) == (1, TOBEFREE)
    assert socket.call("ssthresh", host.cpus[0], 0) == 2
    socket.put()
    assert ours.state(fd) == (0, TOBEFREE)


def test_states_of_a_link_map(host, ours, both) -> None:
    fd = ours.make(flags=f.BPF_F_LINK)
    assert ours.state(fd) == (0, READY)
    link = host.bpf.link_create(fd, 0, AttachType.STRUCT_OPS)
    assert ours.state(fd) == (1, READY)
    host.bpf.close(link)
    assert ours.state(fd) == (0, READY)
    # the part of it that registers nothing
    fd = both.make(flags=f.BPF_F_LINK)
    assert both.state(fd) == (0, READY)


def test_update_registers_again_ebusy_key_1_e2big_exist_einval(host, ours, refused) -> None:
    fd = ours.make()
    update, value = host.bpf.map_update_elem, ours.value("bpf_other")
    assert refused(update, fd, KEY, value) == "EBUSY"
    assert refused(update, fd, b"\1\0\0\0", value) == "E2BIG"
    assert refused(update, fd, KEY, value, flags=f.BPF_EXIST) == "EINVAL"
    host.bpf.map_delete_elem(fd, KEY)
    assert refused(host.bpf.map_delete_elem, fd, KEY) == "EINPROGRESS"
    assert refused(update, fd, KEY, value) == "EBUSY"


def test_link_on_a_non_link_map_einval_delete_of_a_link_map_eopnotsupp(host, ours, both, refused) -> None:
    create = host.bpf.link_create
    assert refused(create, ours.make(), 0, AttachType.STRUCT_OPS) == "EINVAL"
    assert refused(create, ours.map(f.BPF_F_LINK), 0, AttachType.STRUCT_OPS) == "EINVAL"
    array = host.bpf.map_create(MapType.ARRAY, 4, 4, 1)
    assert refused(create, array, 0, AttachType.STRUCT_OPS) == "EINVAL"
    fd = both.make(flags=f.BPF_F_LINK)
    assert refused(both.bpf.map_delete_elem, fd, KEY) == "EOPNOTSUPP"
    assert refused(both.bpf.map_update_elem, fd, KEY, both.value()) == "EBUSY"


@pytest.mark.parametrize("name", ["cubic", "reno", "bpf_mine"])
def test_name_clash_eexist(host, ours, refused, name) -> None:
    ours.make("bpf_mine")
    fd = ours.map()
    assert refused(host.bpf.map_update_elem, fd, KEY, ours.value(name)) == "EEXIST"
    assert dmesg(host)[-1] == f"TCP: {name} already registered or non-unique key"
    assert ours.state(fd) == (0, INIT)
    # a link map clashes when it is linked
    link_map = ours.make(name, f.BPF_F_LINK)
    assert refused(host.bpf.link_create, link_map, 0, AttachType.STRUCT_OPS) == "EEXIST"
    assert ours.state(link_map) == (0, READY)
    assert len(host.links) == 0


@pytest.mark.parametrize("missing", ["ssthresh", "undo_cwnd", "cong_avoid"])
@pytest.mark.parametrize("flags", [0, f.BPF_F_LINK])
def test_required_members(host, ours, refused, missing, flags) -> None:
    members = {name: ret for name, ret in MEMBERS.items() if name != missing}
    fd, value = ours.map(flags), ours.value("bpf_noss", members)
    assert refused(host.bpf.map_update_elem, fd, KEY, value) == "EINVAL"
    assert dmesg(host) == ["TCP: bpf_noss does not implement required ops"]
    assert ours.state(fd) == (0, INIT)
    # nothing is held, and another value may come
    assert [prog.refs for prog in host.progs] == [1] * len(members)
    host.bpf.map_update_elem(fd, KEY, ours.value("bpf_noss"))


def test_cong_control_stands_for_cong_avoid(both) -> None:
    members = {"ssthresh": 2, "undo_cwnd": 3, "cong_control": 0}
    fd = both.map(f.BPF_F_LINK)
    both.bpf.map_update_elem(fd, KEY, both.value(members=members))
    assert both.state(fd) == (0, READY)


def test_values_that_are_refused(both, refused) -> None:
    fd = both.map(f.BPF_F_LINK)

    def update(value: bytes) -> str:
        return refused(both.bpf.map_update_elem, fd, KEY, value)

    good = both.value()
    # an empty name, one without end, one that is no word
    assert update(both.value("")) == "EINVAL"
    assert update(both.value("n" * 16)) == "EINVAL"
    assert update(both.value("bpf-cc")) == "EINVAL"
    # flags that are not known; members that are not for user space
    assert update(both.value(flags=0x20)) == "EINVAL"
    assert update(both.value(key=1)) == "EINVAL"
    assert update(both.value(list=1)) == "EINVAL"
    # holes, reference count, state
    for at in (0, 4, 8, 63, OPS_OFF + 152, 255):
        assert update(good[:at] + b"\1" + good[at + 1 :]) == "EINVAL", at
    # what is no descriptor, no program, a program of another member
    assert update(both.value(init=999)) == "EBADF"
    assert update(both.value(init=fd)) == "EINVAL"
    assert update(both.value(init=both.prog("release"))) == "EINVAL"
    assert update(both.value(get_info=both.prog("release"))) == "EINVAL"
    # all of that left the map as it was
    assert both.state(fd) == (0, INIT)
    both.bpf.map_update_elem(fd, KEY, good)


def test_a_value_with_an_owner_is_dropped_silently(both) -> None:
    fd = both.map(f.BPF_F_LINK)
    both.bpf.map_update_elem(fd, KEY, both.value(owner=1))
    assert both.state(fd) == (0, INIT)
    both.bpf.map_update_elem(fd, KEY, both.value(flags=3))


def test_user_space_reads_ids_where_it_wrote_descriptors(both) -> None:
    fd, value = both.map(f.BPF_F_LINK), both.value()
    both.bpf.map_update_elem(fd, KEY, value)
    found = both.bpf.map_lookup_elem(fd, KEY)
    for member in MEMBERS:
        at = OPS_OFF + member_place(both.btf, "tcp_congestion_ops", member).bit_off // 8
        prog = int.from_bytes(value[at : at + 8], "little")
        assert int.from_bytes(found[at : at + 8], "little") == both.bpf.obj_get_info_by_fd(prog).id
    assert b"bpf_cc\0" in found


def test_loads_that_are_refused(both) -> None:
    with pytest.raises(
        KernelError, match="attach to unsupported member get_info of struct tcp_congestion_ops"
    ) as error:
        both.prog("get_info", log_level=1)
    assert error.value.errno_name == "ENOTSUPP"
    number, code = both.btf.by_name("tcp_congestion_ops", Kind.STRUCT) + 1, encode(assemble("r0 = 0; exit"))
    with pytest.raises(KernelError, match=rf"attach_btf_id {number} is not a supported struct") as error:
        both.bpf.prog_load(ProgType.STRUCT_OPS, code, attach_btf_id=number, expected_attach_type=0, log_level=1)
    assert error.value.errno_name == "ENOTSUPP"


def test_link_update_same_name_other_map(host, ours, refused) -> None:
    first, second = (ours.make("bpf_lnk", f.BPF_F_LINK, members={**MEMBERS, "ssthresh": ret}) for ret in (5, 7))
    link = host.bpf.link_create(first, 0, AttachType.STRUCT_OPS)
    old, cpu = host.tcp_ca.assign("bpf_lnk"), host.cpus[0]
    host.bpf.link_update(link, second)
    assert host.tcp_ca.available == [*BUILT_IN, "bpf_lnk"]
    assert host.tcp_ca.find("bpf_lnk").call("ssthresh", cpu, 0) == 7
    # sockets keep what they have
    assert (old.name, old.call("ssthresh", cpu, 0)) == ("bpf_lnk", 5)
    assert (ours.state(first), ours.state(second)) == ((1, READY), (1, READY))
    other = ours.make("bpf_elsewise", f.BPF_F_LINK)
    assert refused(host.bpf.link_update, link, other) == "EINVAL"
    assert dmesg(host) == ["TCP: bpf_elsewise not registered or non-unique key"]
    assert host.bpf.obj_get_info_by_fd(link).details["map_id"] == host.bpf.obj_get_info_by_fd(second).id
    # Linux corrupts its list here
    assert refused(host.bpf.link_update, link, second) == "EBUSY"


def test_link_update_with_an_expected_map(host, ours, refused) -> None:
    first, second, third = (ours.make("bpf_lnk", f.BPF_F_LINK) for _ in range(3))
    link = host.bpf.link_create(first, 0, AttachType.STRUCT_OPS)
    update = host.bpf.link_update
    assert refused(update, link, second, old_prog_fd=third, flags=f.BPF_F_REPLACE) == "EPERM"
    assert refused(update, link, second, old_prog_fd=first) == "EINVAL"
    assert refused(update, link, ours.map(f.BPF_F_LINK)) == "EINVAL"
    assert refused(update, link, ours.prog("init")) == "EINVAL"
    update(link, second, old_prog_fd=first, flags=f.BPF_F_REPLACE)


def test_link_detach_then_map_id_0_and_update_enolink(host, ours, refused) -> None:
    first, second = (ours.make("bpf_lnk", f.BPF_F_LINK) for _ in range(2))
    link = host.bpf.link_create(first, 0, AttachType.STRUCT_OPS)
    socket = host.tcp_ca.assign("bpf_lnk")
    host.bpf.link_detach(link)
    host.bpf.link_detach(link)
    assert host.bpf.obj_get_info_by_fd(link).details["map_id"] == 0
    assert refused(host.bpf.link_update, link, second) == "ENOLINK"
    assert (host.tcp_ca.find("bpf_lnk"), socket.name) == (None, "bpf_lnk")
    # attach again after the link is gone
    host.bpf.close(link)
    host.bpf.link_create(first, 0, AttachType.STRUCT_OPS)
    assert host.tcp_ca.find("bpf_lnk") is not None


def test_link_info_type_9_prog_id_0_map_id(host, ours) -> None:
    fd = ours.make(flags=f.BPF_F_LINK)
    info = host.bpf.obj_get_info_by_fd(host.bpf.link_create(fd, 0, AttachType.STRUCT_OPS))
    assert (info.type, info.prog_id, info.details["map_id"]) == (9, 0, host.bpf.obj_get_info_by_fd(fd).id)


def test_link_commands_as_union_bpf_attr(host, ours) -> None:
    first, second = (ours.make("bpf_lnk", f.BPF_F_LINK) for _ in range(2))
    # map_fd, target_fd, attach_type, flags; link_fd, new_map_fd, flags, old_map_fd
    raw, user = host.bpf.raw, host.bpf.user
    link = raw(BpfCmd.LINK_CREATE, bytearray(struct.pack("<4I", first, 0, AttachType.STRUCT_OPS, 0)))
    raw(BpfCmd.LINK_UPDATE, bytearray(struct.pack("<4I", link, second, f.BPF_F_REPLACE, first)))
    record = user.alloc(96)
    raw(BpfCmd.OBJ_GET_INFO_BY_FD, bytearray(struct.pack("<IIQ", link, 96, record)))
    map_id = host.bpf.obj_get_info_by_fd(second).id
    info = host.bpf.obj_get_info_by_fd(link)
    assert struct.unpack_from("<IIIxxxxI", user.read(record, 64)) == (9, info.id, 0, map_id)
    raw(BpfCmd.LINK_DETACH, bytearray(struct.pack("<I", link)))
    assert host.tcp_ca.find("bpf_lnk") is None


def test_bpf_dummy_ops_register_eopnotsupp(both, refused) -> None:
    for flags in (0, f.BPF_F_LINK):
        fd = both.map(flags, "bpf_dummy_ops")
        value = bytearray(128)
        value[OPS_OFF : OPS_OFF + 8] = both.prog("test_1", ops="bpf_dummy_ops").to_bytes(8, "little")
        assert refused(both.bpf.map_update_elem, fd, KEY, bytes(value)) == "EOPNOTSUPP"


def test_test_run_of_a_tcp_program_eopnotsupp(both, refused) -> None:
    assert refused(both.bpf.prog_test_run, both.prog("ssthresh"), ctx_in=bytes(8)) == "EOPNOTSUPP"


def test_members_see_their_arguments_and_write_the_socket(host, ours) -> None:
    cwnd, size = (member_place(vmlinux(), "tcp_sock", "snd_cwnd").bit_off // 8, sizeof(vmlinux(), _id("tcp_sock")))
    fd, value = ours.map(), bytearray(ours.value(members={"ssthresh": 2, "undo_cwnd": 3}))
    # cong_avoid(sk, ack, acked): snd_cwnd = ack + acked
    code = f"r1 = r1; r2 = *(u64 *)(r1 + 0); r3 = *(u32 *)(r1 + 8); r4 = *(u32 *)(r1 + 16); r3 += r4; " \
           f"*(u32 *)(r2 + {cwnd}) = r3; exit"  # fmt: skip
    value[OPS_OFF + 8 : OPS_OFF + 16] = ours.prog("cong_avoid", code).to_bytes(8, "little")
    host.bpf.map_update_elem(fd, KEY, bytes(value))
    sock = host.mem.alloc(size)
    ops, cpu = host.tcp_ca.find("bpf_cc"), host.cpus[0]
    assert ops.call("cong_avoid", cpu, sock, 1000, 37) == 0
    assert host.mem.load(sock + cwnd, 4) == 1037
    assert (ops.call("ssthresh", cpu, sock), ops.call("undo_cwnd", cpu, sock)) == (2, 3)
    # members that are missing
    assert [ops.call(name, cpu, sock) for name in ("init", "release", "min_tso_segs", "sndbuf_expand")] == [0, 0, 2, 2]
    assert [(run.hook, run.device) for run in host.recorder.runs] == [
        ("struct_ops", f"tcp_congestion_ops.{name}") for name in ("cong_avoid", "ssthresh", "undo_cwnd")
    ]


def test_everything_is_let_go(host, ours) -> None:
    fd = ours.make(flags=f.BPF_F_LINK)
    link = host.bpf.link_create(fd, 0, AttachType.STRUCT_OPS)
    host.bpf.obj_pin(link, "/sys/fs/bpf/cc")
    host.fds.close_all()
    assert host.tcp_ca.available[-1] == "bpf_cc"
    assert (len(host.maps), len(host.progs)) == (1, 3)
    host.bpf.close(host.bpf.obj_get("/sys/fs/bpf/cc"))
    host.bpf.bpffs.unlink("/sys/fs/bpf/cc")
    assert host.tcp_ca.available == BUILT_IN
    assert (len(host.maps), len(host.progs), len(host.links), host.text.images) == (0, 0, 0, {})


def _id(name: str) -> int:
    return vmlinux().by_name(name, Kind.STRUCT)
