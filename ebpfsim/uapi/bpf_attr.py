"""``union bpf_attr`` by command, and the information records, as fields with offsets (include/uapi/linux/bpf.h, v6.18).

Formats are those of the struct module.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct

from ebpfsim.uapi.bpf import BpfCmd, LinkType

__all__ = [
    "ATTRS",
    "ATTR_ENDS",
    "BPF_BTF_INFO",
    "BPF_LINK_INFO",
    "BPF_MAP_INFO",
    "BPF_PROG_INFO",
    "LINK_CREATE_OPTS",
    "LINK_CREATE_OPTS_OFF",
    "LINK_UNIONS",
    "PERF_EVENT_UNIONS",
    "PERF_EVENT_UNION_OFF",
    "SIZEOF_BPF_ATTR",
    "Layout",
]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its offset in bytes and its format."""

    off: int
    format: str


class Layout:
    """Fields one after the other at their natural alignment; ``size`` ends with the last one."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self.fields: dict[str, Field] = {}
        off = 0
        for name, format_ in fields:
            layout = Struct("<" + format_)
            align = 1 if "s" in format_ else layout.size
            off = -(-off // align) * align
            self.fields[name] = Field(off, "<" + format_)
            off += layout.size
        self.size = off

    def pack(self, values: Mapping[str, int | bytes]) -> bytearray:
        """Return the bytes of a record; fields that are not named are zero."""
        data = bytearray(self.size)
        for name, value in values.items():
            field = self.fields[name]
            Struct(field.format).pack_into(data, field.off, value)
        return data

    def unpack(self, data: bytes | bytearray) -> dict[str, int | bytes]:
        """Return all fields of a record by name."""
        padded = bytes(data[: self.size]).ljust(self.size, b"\0")
        return {name: Struct(f.format).unpack_from(padded, f.off)[0] for name, f in self.fields.items()}


def _layout(**fields: str) -> Layout:
    return Layout(*fields.items())


_ELEM = _layout(map_fd="I", key="Q", value="Q", flags="Q")
_NEXT_KEY = _layout(map_fd="I", key="Q", next_key="Q")
# fmt: off
_BATCH = _layout(in_batch="Q", out_batch="Q", keys="Q", values="Q", count="I", map_fd="I", elem_flags="Q", flags="Q")
_PROG_LOAD = _layout(
    prog_type="I", insn_cnt="I", insns="Q", license="Q", log_level="I", log_size="I", log_buf="Q", kern_version="I",
    prog_flags="I", prog_name="16s", prog_ifindex="I", expected_attach_type="I", prog_btf_fd="I",
    func_info_rec_size="I", func_info="Q", func_info_cnt="I", line_info_rec_size="I", line_info="Q", line_info_cnt="I",
    attach_btf_id="I", attach_prog_fd="I", core_relo_cnt="I", fd_array="Q", core_relos="Q", core_relo_rec_size="I",
    log_true_size="I", prog_token_fd="i", fd_array_cnt="I", signature="Q", signature_size="I", keyring_id="i",
)
_MAP_CREATE = _layout(
    map_type="I", key_size="I", value_size="I", max_entries="I", map_flags="I", inner_map_fd="I", numa_node="I",
    map_name="16s", map_ifindex="I", btf_fd="I", btf_key_type_id="I", btf_value_type_id="I",
    btf_vmlinux_value_type_id="I", map_extra="Q", value_type_btf_obj_fd="i", map_token_fd="i", excl_prog_hash="Q",
    excl_prog_hash_size="I",
)
_TEST_RUN = _layout(
    prog_fd="I", retval="I", data_size_in="I", data_size_out="I", data_in="Q", data_out="Q", repeat="I", duration="I",
    ctx_size_in="I", ctx_size_out="I", ctx_in="Q", ctx_out="Q", flags="I", cpu="I", batch_size="I",
)
_ATTACH = _layout(
    target_fd="I", attach_bpf_fd="I", attach_type="I", attach_flags="I", replace_bpf_fd="I", relative_fd="I",
    expected_revision="Q",
)
_QUERY = _layout(
    target_fd="I", attach_type="I", query_flags="I", attach_flags="I", prog_ids="Q", prog_cnt="I",
    prog_attach_flags="Q", link_ids="Q", link_attach_flags="Q", revision="Q",
)
_OBJ = _layout(pathname="Q", bpf_fd="I", file_flags="I", path_fd="i")
_ID = _layout(id="I", next_id="I", open_flags="I", fd_by_id_token_fd="i")
_BTF_LOAD = _layout(
    btf="Q", btf_log_buf="Q", btf_size="I", btf_log_size="I", btf_log_level="I", btf_log_true_size="I", btf_flags="I",
    btf_token_fd="i",
)

_TASK_FD_QUERY = _layout(
    pid="I", fd="I", flags="I", buf_len="I", buf="Q", prog_id="I", fd_type="I", probe_offset="Q", probe_addr="Q",
)

ATTRS: Mapping[BpfCmd, Layout] = {
    BpfCmd.MAP_CREATE:                  _MAP_CREATE,
    BpfCmd.MAP_LOOKUP_ELEM:             _ELEM,
    BpfCmd.MAP_UPDATE_ELEM:             _ELEM,
    BpfCmd.MAP_DELETE_ELEM:             _layout(map_fd="I", key="Q"),
    BpfCmd.MAP_GET_NEXT_KEY:            _NEXT_KEY,
    BpfCmd.PROG_LOAD:                   _PROG_LOAD,
    BpfCmd.OBJ_PIN:                     _OBJ,
    BpfCmd.OBJ_GET:                     _OBJ,
    BpfCmd.PROG_ATTACH:                 _ATTACH,
    BpfCmd.PROG_DETACH:                 _ATTACH,
    BpfCmd.PROG_TEST_RUN:               _TEST_RUN,
    BpfCmd.PROG_GET_NEXT_ID:            _ID,
    BpfCmd.MAP_GET_NEXT_ID:             _ID,
    BpfCmd.PROG_GET_FD_BY_ID:           _ID,
    BpfCmd.MAP_GET_FD_BY_ID:            _ID,
    BpfCmd.OBJ_GET_INFO_BY_FD:          _layout(bpf_fd="I", info_len="I", info="Q"),
    BpfCmd.PROG_QUERY:                  _QUERY,
    BpfCmd.RAW_TRACEPOINT_OPEN:         _layout(name="Q", prog_fd="I", cookie="Q"),
    BpfCmd.BTF_LOAD:                    _BTF_LOAD,
    BpfCmd.BTF_GET_FD_BY_ID:            _ID,
    BpfCmd.MAP_LOOKUP_AND_DELETE_ELEM:  _ELEM,
    BpfCmd.MAP_FREEZE:                  _layout(map_fd="I"),
    BpfCmd.BTF_GET_NEXT_ID:             _ID,
    BpfCmd.MAP_LOOKUP_BATCH:            _BATCH,
    BpfCmd.MAP_LOOKUP_AND_DELETE_BATCH: _BATCH,
    BpfCmd.MAP_UPDATE_BATCH:            _BATCH,
    BpfCmd.MAP_DELETE_BATCH:            _BATCH,
    BpfCmd.LINK_CREATE:                 _layout(prog_fd="I", target_fd="I", attach_type="I", flags="I"),
    BpfCmd.LINK_UPDATE:                 _layout(link_fd="I", new_prog_fd="I", flags="I", old_prog_fd="I"),
    BpfCmd.LINK_GET_FD_BY_ID:           _ID,
    BpfCmd.LINK_GET_NEXT_ID:            _ID,
    BpfCmd.ENABLE_STATS:                _layout(type="I"),
    BpfCmd.ITER_CREATE:                 _layout(link_fd="I", flags="I"),
    BpfCmd.LINK_DETACH:                 _layout(link_fd="I"),
    BpfCmd.PROG_BIND_MAP:               _layout(prog_fd="I", map_fd="I", flags="I"),
    BpfCmd.TOKEN_CREATE:                _layout(flags="I", bpffs_fd="I"),
    BpfCmd.TASK_FD_QUERY:               _TASK_FD_QUERY,
    BpfCmd.PROG_STREAM_READ_BY_FD:      _layout(stream_buf="Q", stream_buf_len="I", stream_id="I", prog_fd="I"),
}
SIZEOF_BPF_ATTR = 168
# where the last field of a command ends, if that is not the end of its layout (BPF_*_LAST_FIELD, kernel/bpf/syscall.c)
ATTR_ENDS: Mapping[BpfCmd, int] = {
    **dict.fromkeys((BpfCmd.PROG_GET_NEXT_ID, BpfCmd.MAP_GET_NEXT_ID, BpfCmd.BTF_GET_NEXT_ID), 8),
    BpfCmd.LINK_GET_NEXT_ID: 8,
    BpfCmd.PROG_GET_FD_BY_ID: 4,
    BpfCmd.LINK_GET_FD_BY_ID: 4,
    BpfCmd.MAP_GET_FD_BY_ID: 12,
    BpfCmd.LINK_CREATE: 60,
}
# what follows in LINK_CREATE depends on the attach type; these are the fields of tcx, netkit and cgroups
LINK_CREATE_OPTS_OFF = 16
LINK_CREATE_OPTS = _layout(relative_fd="I", expected_revision="Q")

BPF_MAP_INFO = _layout(
    type="I", id="I", key_size="I", value_size="I", max_entries="I", map_flags="I", name="16s", ifindex="I",
    btf_vmlinux_value_type_id="I", netns_dev="Q", netns_ino="Q", btf_id="I", btf_key_type_id="I",
    btf_value_type_id="I", btf_vmlinux_id="I", map_extra="Q", hash="Q", hash_size="I",
)
BPF_PROG_INFO = _layout(
    type="I", id="I", tag="8s", jited_prog_len="I", xlated_prog_len="I", jited_prog_insns="Q", xlated_prog_insns="Q",
    load_time="Q", created_by_uid="I", nr_map_ids="I", map_ids="Q", name="16s", ifindex="I", gpl_compatible="I",
    netns_dev="Q", netns_ino="Q", nr_jited_ksyms="I", nr_jited_func_lens="I", jited_ksyms="Q", jited_func_lens="Q",
    btf_id="I", func_info_rec_size="I", func_info="Q", nr_func_info="I", nr_line_info="I", line_info="Q",
    jited_line_info="Q", nr_jited_line_info="I", line_info_rec_size="I", jited_line_info_rec_size="I",
    nr_prog_tags="I", prog_tags="Q", run_time_ns="Q", run_cnt="Q", recursion_misses="Q", verified_insns="I",
    attach_btf_obj_id="I", attach_btf_id="I",
)
BPF_BTF_INFO = _layout(btf="Q", btf_size="I", id="I", name="Q", name_len="I", kernel_btf="I")
BPF_LINK_INFO = _layout(type="I", id="I", prog_id="I")
# the members of its union, from offset 16 on, by type of link; others are not read
LINK_UNIONS: Mapping[LinkType, Layout] = {
    LinkType.RAW_TRACEPOINT: _layout(tp_name="Q", tp_name_len="I", cookie="Q"),
    LinkType.TRACING: _layout(attach_type="I", target_obj_id="I", target_btf_id="I", cookie="Q"),
    LinkType.CGROUP:  _layout(cgroup_id="Q", attach_type="I"),
    LinkType.NETNS:   _layout(netns_ino="I", attach_type="I"),
    LinkType.ITER:    _layout(target_name="Q", target_name_len="I", map_id="I"),
    LinkType.XDP:     _layout(ifindex="I"),
    LinkType.TCX:     _layout(ifindex="I", attach_type="I"),
    LinkType.NETKIT:  _layout(ifindex="I", attach_type="I"),
    LinkType.SOCKMAP: _layout(map_id="I", attach_type="I"),
    LinkType.STRUCT_OPS: _layout(map_id="I"),
    LinkType.NETFILTER: _layout(pf="I", hooknum="I", priority="i", flags="I"),
    LinkType.KPROBE_MULTI: _layout(addrs="Q", count="I", flags="I", missed="Q", cookies="Q"),
    LinkType.UPROBE_MULTI: _layout(
        path="Q", offsets="Q", ref_ctr_offsets="Q", cookies="Q", path_size="I", count="I", flags="I", pid="I",
    ),
}
# those of links of perf events, behind the type of the event
PERF_EVENT_UNIONS: Mapping[str, Layout] = {
    "uprobe":     _layout(file_name="Q", name_len="I", offset="I", cookie="Q", ref_ctr_offset="Q"),
    "kprobe":     _layout(func_name="Q", name_len="I", offset="I", addr="Q", missed="Q", cookie="Q"),
    "tracepoint": _layout(tp_name="Q", name_len="I", cookie="Q"),
    "event":      _layout(config="Q", type="I", cookie="Q"),
}
PERF_EVENT_UNION_OFF = 24
LINK_UNION_OFF, LINK_INFO_BYTES = 16, 64
# fmt: on
