"""Facts about hooks that were measured on Linux, line by line, and the tests that name them.

Linux 6.18 for "XDP", "tc" and "Cgroup and sockets", Linux 6.12 for the rest. Tests are ``FILE::NAME`` below ``tests/``;
a text instead of tests says what is not modelled.
"""

N, H, F = "unit/netstack/test_", "unit/hooks/test_", "facts/test_"
WALKS = F + "walks.py::test_answers_are_the_recorded_ones"
TRAMP, HOOKS, KPROBE, SECURITY = (f"{F}{name}.py::test_" for name in ("trampolines", "hooks", "kprobes", "lsm"))
EVENTS, RAW_TP = (f"{F}{name}.py::test_" for name in ("trace_events", "tracepoints"))
LOADS = F + "walks.py::test_facts_about_programs_that_trace"
XDP_STEPS = H + "xdp.py::test_attaching_as_on_linux"
SKB = N + "skb_helpers.py::test_runs_end_as_on_linux"
ROOM = N + "skb_room.py::test_runs_end_as_on_linux"
ATTACH_PROG = "unit/ebpfsim/verifier/test_attach_prog.py::test_"
INFO = "unit/ebpfsim/syscall/test_raw_link_info.py::test_"
AF_XDP = "not modelled: AF_XDP sockets"
UPROBES = "unit/tracing/test_uprobe.py::test_"

Tests = str | tuple[str, ...]

XDP: list[tuple[str, Tests]] = [
    (
        "Native veth: TX or devmap redirect to a peer without an XDP program (and without GRO) "
        "is lost, generic delivers",
        (
            N + "veth.py::test_tx_is_lost_without_napi_at_the_other_end",
            N + "veth.py::test_redirect_needs_napi_at_the_other_end",
            N + "veth.py::test_generic_tx_needs_nothing",
        ),
    ),
    ("REDIRECT without target: rx_dropped+1 native, +0 generic", N + "redirect.py::test_no_target"),
    ("Dropped and aborted frames still count in rx_packets", N + "veth.py::test_dropped_packets_are_received_ones"),
    (
        "bpf_redirect_map miss returns flags & 3",
        N + "redirect_helpers.py::test_a_missing_entry_gives_the_low_bits_of_flags",
    ),
    ("bpf_redirect with flags != 0 returns XDP_ABORTED", N + "redirect_helpers.py::test_redirect_with_flags_aborts"),
    ("BROADCAST includes the ingress device unless EXCLUDE_INGRESS", N + "redirect.py::test_broadcast"),
    (
        "UPDATE_IF_NOEXIST on a busy device EBUSY; generic over native EEXIST; wrong expected "
        "fd EEXIST; netlink over a "
        "link EBUSY; a second link EBUSY; SKB|DRV EINVAL; native on lo EOPNOTSUPP; devmap program EINVAL",
        (XDP_STEPS, WALKS),
    ),
    (
        "Native non-frags: peer MTU at most 3506, then ERANGE",
        (XDP_STEPS, N + "veth.py::test_mtu_of_the_other_end_is_limited"),
    ),
    (
        "link_update with F_REPLACE and the wrong old program EPERM; an old fd without the "
        "flag EINVAL; after detach "
        "ENOLINK and ifindex 0",
        (XDP_STEPS, WALKS, HOOKS + "an_old_program_without_the_flag_einval"),
    ),
    (
        "cpumap: impossible CPU ENODEV, queue size over 16384 EOVERFLOW, 0 deletes, program of "
        "a wrong type ENOMEM, "
        "max_entries over the CPU limit E2BIG",
        (
            F + "maps.py::test_cpumap_impossible_cpu_enodev_queue_over_16384_eoverflow_0_deletes_limit_e2big",
            "unit/ebpfsim/maps/test_cpumap.py::test_programs_of_another_kind",
        ),
    ),
    (
        "devmap: unknown ifindex EINVAL, ifindex 0 deletes",
        (
            "unit/ebpfsim/maps/test_devmap.py::test_array_refuses",
            "unit/ebpfsim/maps/test_devmap.py::test_interface_index_zero_deletes_from_the_array",
        ),
    ),
    (
        "500 packets sent while the program was replaced 500 times ran exactly 500 programs",
        N + "xdp.py::test_programs_are_replaced_under_traffic",
    ),
]

TC: list[tuple[str, Tests]] = [
    ("cls_bpf direct-action: only -1, 0, 2, 4, 7, 8 keep their meaning", N + "tc.py::test_direct_action_codes"),
    ("Egress SHOT makes an AF_PACKET send() fail with ENOBUFS", "not modelled: AF_PACKET sockets"),
    (
        "tcx: -1 next (and on into cls_bpf), 0 pass and skip cls_bpf, 2 drop, 7 redirect",
        (N + "tc.py::test_tcx_verdicts", N + "tc.py::test_tcx_passes_by_cls_bpf"),
    ),
    (
        "Order: BEFORE alone = head, AFTER alone = tail; BEFORE|AFTER on a non-empty list "
        "ERANGE; unknown relative program "
        "ENOENT, bad fd EBADF, relative without BEFORE/AFTER EINVAL, duplicate EEXIST, wrong "
        "expected_revision ESTALE, "
        "touching a link-owned entry EBUSY; revision starts at 1, +1 a change",
        (H + "tcx.py::test_steps_as_on_linux", WALKS, N + "tc.py::test_tcx_order"),
    ),
    ("63 entries, then ERANGE", H + "tcx.py::test_steps_as_on_linux"),
    ("device gone: ifindex 0, update ENOLINK, detach 0", H + "tcx.py::test_device_gone"),
    (
        "Live wire_len is len-14 at ingress, len at egress; ingress_ifindex is 0 at egress",
        N + "tc.py::test_what_programs_see",
    ),
    (
        "change_head up to 256 (zero filled), flags EINVAL; change_tail 14..2000 ok, else "
        "EINVAL; change_proto only 4<->6, "
        "else -524; adjust_room +4096 EFAULT, below L3 -524; pull_data past the length ENOMEM",
        ROOM,
    ),
    (
        "store/load_bytes out of range EFAULT (load zeroes the buffer); l3/l4_csum_replace "
        "with size nibble 0, 1 or 8 "
        "EINVAL, odd offset EFAULT",
        SKB,
    ),
    ("vlan_pop untagged returns 0; a protocol other than 8100/88a8 pushes 0x8100", ROOM),
    ("bpf_redirect to an unknown ifindex is no error at the call", N + "tc.py::test_redirect_to_an_unknown_device"),
    ("clone_redirect to one EINVAL and the original continues", N + "tc.py::test_clone_redirect"),
    ("redirect_neigh rewrites MACs", N + "tc.py::test_redirect_neigh_writes_the_addresses"),
    (
        "vxlan with bpf_skb_set_tunnel_key: ZERO_CSUM gives UDP checksum 0, DONT_FRAGMENT sets DF; sizes 8 and 44 "
        "accepted for set, 6 EINVAL; get with 7 or 8 EINVAL",
        (
            N + "tunnel_key.py::test_set",
            N + "tunnel_key.py::test_get_without_a_tunnel",
            N + "tunnel_key.py::test_get_what_was_set",
            N + "tunnel.py::test_vxlan_header",
        ),
    ),
    ("priorities, handles and chains of filters, as random sequences", WALKS),
]

CGROUP: list[tuple[str, Tests]] = [
    (
        "Egress skb program: 0 gives EPERM to a UDP sender, 1 ok; bpf_set_retval(-E) wins",
        N + "cgroup_bpf.py::test_egress",
    ),
    (
        "R0 out of range: At program exit the register R0 has smin=2 smax=2 should have been in [0, 1]",
        N + "cgroup_bpf.py::test_out_of_range",
    ),
    ("parent NONE, child attach EPERM", (H + "cgroup.py::test_none_forbids_all_below", WALKS)),
    ("OVERRIDE child replaces", (H + "cgroup.py::test_override", WALKS)),
    (
        "MULTI child first, then parent, all run even after one refused",
        (H + "cgroup.py::test_multi", N + "cgroup_bpf.py::test_all_run_after_one_has_refused", WALKS),
    ),
    ("duplicate EINVAL", (H + "cgroup.py::test_multi", WALKS)),
    ("64 programs, then E2BIG", H + "cgroup.py::test_sixty_four"),
    (
        "flow_dissector: same program again EINVAL; link beside a program EEXIST; second link E2BIG",
        (H + "netns.py::test_facts", WALKS),
    ),
    (
        "sk_lookup: steering works, DROP gives ECONNREFUSED, 64 links then E2BIG",
        (
            H + "netns.py::test_sk_lookup_drops",
            N + "sk_lookup.py::test_sockets_are_chosen_as_on_linux",
            H + "netns.py::test_facts",
        ),
    ),
    ("sk_msg DROP: send() EACCES", N + "skmsg.py::test_bytes_go_where_linux_lets_them"),
    ("AF_XDP copy mode: chunk 1024 EINVAL; ring not a power of two EINVAL; ZEROCOPY EOPNOTSUPP on veth", AF_XDP),
]

TRAMPOLINES: list[tuple[str, Tests]] = [
    (
        "Order: c b a FUNCTION z y x",
        (TRAMP + "order_each_kind_lifo_and_another_kind_moves_nothing", WALKS),
    ),
    (
        "fmod_ret 1(ret 0) 2(-5) 3(-13): only 3 runs, body skipped, every fexit still runs and sees -13",
        (
            TRAMP + "fmod_ret_lifo_first_non_zero_skips_the_function_and_fexit_sees_it",
            TRAMP + "fmod_ret_sees_the_previous_result_fexit_the_last_one",
        ),
    ),
    (
        "3, 2 detached: 1 runs, ret 0, body runs, fexit see 0",
        TRAMP + "fmod_ret_lifo_first_non_zero_skips_the_function_and_fexit_sees_it",
    ),
    (
        "fentry with skipping fmod_ret: order fentry, fmod_ret, body, fexit",
        TRAMP + "fmod_ret_lifo_first_non_zero_skips_the_function_and_fexit_sees_it",
    ),
    ("fmod_ret on security_X with lsm/X", SECURITY + "fmod_ret_on_the_outer_function_comes_first"),
    ("fentry/fexit returning non-0", (TRAMP + "non_zero_result_of_fentry_is_refused", LOADS)),
    (
        "38 programs of all kinds together; 39th -E2BIG (kernel and BPF targets)",
        (
            TRAMP + "38_programs_of_all_kinds_then_e2big",
            HOOKS + "38_programs_on_a_function_of_a_program_then_e2big",
        ),
    ),
    (
        "Same program second link: vmlinux target -EBUSY, BPF target -EINVAL",
        (
            TRAMP + "same_program_twice_ebusy_and_after_close_again",
            TRAMP + "a_second_link_of_a_program_for_a_program_einval",
            WALKS,
        ),
    ),
    (
        "After link closed: vmlinux again ok; BPF target -EINVAL; with target_fd + target_btf_id ok",
        (TRAMP + "freplace_again_needs_its_target_named", WALKS),
    ),
    (
        "RAW_TRACEPOINT_OPEN(name=NULL) with fentry",
        TRAMP + "raw_tracepoint_open_without_a_name_is_link_create",
    ),
    ("link_update / link_detach on tracing link", TRAMP + "link_update_einval_detach_eopnotsupp"),
    (
        "LINK_CREATE attach_type other than the program's",
        TRAMP + "link_create_with_another_attach_type_einval",
    ),
    (
        "TEST_RUN fentry/fexit",
        (
            TRAMP + "test_run_calls_functions_and_ignores_input",
            TRAMP + "test_run_flags_and_cpu_einval",
        ),
    ),
    ("TEST_RUN fentry on other function: 0", HOOKS + "test_run_of_a_program_for_another_function_0"),
    ("TEST_RUN fmod_ret: 131105, 65570", TRAMP + "test_run_of_modify_return_131105_and_65570"),
    (
        "TEST_RUN tp_btf -EFAULT; lsm -524; ext -524; raw_tp without repeat=0 -EINVAL",
        (
            TRAMP + "test_run_of_tp_btf_efault",
            SECURITY + "test_run_of_lsm_enotsupp",
            TRAMP + "test_run_of_ext_enotsupp",
            F + "programs.py::test_raw_tp_and_syscall_programs_need_repeat_0",
        ),
    ),
    (
        "bpf_fentry_test1 arg/ret; get_func_arg_cnt; get_func_arg -EINVAL; get_func_ret",
        TRAMP + "arguments_and_results",
    ),
    (
        "args are raw u64: int -100 reads 0x00000000ffffff9c",
        TRAMP + "a_negative_int_has_an_upper_half_of_zero",
    ),
    ("bpf_get_func_ip: function symbol + 0", TRAMP + "get_func_ip_is_the_symbol"),
    ("attach cookie", TRAMP + "attach_cookies"),
    (
        "10-argument function: stack args in ctx[6..9], fexit ret at ctx[10], arg_cnt 10",
        HOOKS + "ten_arguments",
    ),
    (
        "struct by value 16 B takes two ctx words: ctx[3], ctx[4], next ctx[5]; arg_cnt 6; ret ctx[6]",
        HOOKS + "a_structure_by_value_takes_two_words",
    ),
    ("void function fexit; ctx beyond args; 4-byte read; write", LOADS),
    ("non-GPL fentry loads", TRAMP + "non_gpl_fentry_loads_and_runs"),
    (
        "Refused targets: no BTF func, id 0 / 1 / huge, func for tp_btf, typedef for fentry, "
        "variadic, denylist, no ftrace "
        "site -EBUSY, int3_exception_notify -EINVAL, sleepable, fmod_ret, helpers",
        LOADS,
    ),
    ("tp_btf unknown -ESRCH", HOOKS + "names_that_libbpf_does_not_find"),
    (
        "Recursion: P=fentry calls bpf_map_update_elem; Q=fentry htab_map_update_elem runs inside P",
        "not modelled: kernel functions of maps are not called as such; the guard by program is test_trampoline.py's",
    ),
    ("user-space BPF_MAP_UPDATE_ELEM: fentry/fexit DO run", "not modelled: kernel functions of maps"),
    (
        "fentry/fexit on XDP main, static subprog, global subprog, tc main",
        TRAMP + "fentry_and_fexit_of_xdp_tc_and_their_functions",
    ),
    ("fmod_ret on BPF program; fentry.s on xdp", ATTACH_PROG + "refusals"),
    ("target without BTF", HOOKS + "a_target_without_btf"),
    ("tp_btf with a BPF target", ATTACH_PROG + "tp_btf_with_a_program_as_target"),
    ("attach_prog_fd is a map: -EINVAL, EMPTY log", HOOKS + "attach_prog_fd_is_a_map"),
    ("writing *xdp->data in fentry", HOOKS + "writing_through_the_xdp_buff"),
    (
        "info of link",
        (TRAMP + "info_of_a_link", TRAMP + "info_of_a_link_to_a_program"),
    ),
    ("freplace: static, arity, arg types", ATTACH_PROG + "refusals"),
    (
        "freplace: main, global, two subprogs",
        TRAMP + "freplace_of_a_function_and_of_main_and_back_at_once",
    ),
    (
        "2nd freplace -EBUSY; fentry on a replaced function -EBUSY; freplace on a traced one -EBUSY; after detach ok",
        (TRAMP + "second_freplace_and_fentry_with_freplace_ebusy", WALKS),
    ),
    ("freplace of a freplace program: load -EINVAL", ATTACH_PROG + "replacing_a_replacement_is_refused"),
    (
        "Subprog <name> doesn't exist; Program extension requires BTF",
        (ATTACH_PROG + "a_type_that_is_no_function_of_the_target", HOOKS + "an_extension_without_btf"),
    ),
    ("helpers are checked as the target's type", ATTACH_PROG + "helpers_of_a_replacement_are_those_of_the_target"),
    (
        "ext program into prog_array / TEST_RUN",
        (
            HOOKS + "an_extension_into_a_prog_array_einval",
            TRAMP + "test_run_of_ext_enotsupp",
        ),
    ),
    (
        "ext that tail-calls: its prog_array refuses an XDP program",
        "not modelled: the type that a program array takes over from an extension is not compared",
    ),
    (
        "detach: target result back at once",
        TRAMP + "freplace_of_a_function_and_of_main_and_back_at_once",
    ),
    ("libxdp dispatcher (xdp-dispatcher.o 1.3.1)", "wild/test_wild.py::test_program_loads_as_on_linux"),
]

PROBES: list[tuple[str, Tests]] = [
    ("kprobe a,b kretprobe r,s: b a FUNC r s", KPROBE + "kprobes_lifo_kretprobes_fifo"),
    ("+ fentry F, fexit X: b a F FUNC X r s", KPROBE + "with_fentry_and_fexit"),
    ("+ multi, session: o S m b a F FUNC X r s n S", (KPROBE + "the_whole_order", WALKS)),
    ("kprobe.session runs at entry and exit", KPROBE + "the_whole_order"),
    ("kprobe return values have no effect", KPROBE + "results_of_kprobes_mean_nothing"),
    ("regs, bpf_get_func_ip, cookie", KPROBE + "registers_addresses_and_cookies"),
    ("func_ip of a kprobe at an offset = 0", "unit/tracing/test_kprobe.py::test_registers_and_info_of_a_probe_inside"),
    ("unknown symbol: perf -ENOENT, multi -ESRCH", KPROBE + "unknown_symbols"),
    ("no ftrace site: perf -EINVAL, multi -ESRCH", KPROBE + "no_ftrace_site"),
    (
        "multi: duplicate -ESRCH; cnt 0, flags 2 -EINVAL; non-multi program -EINVAL",
        (KPROBE + "multi_refusals", WALKS),
    ),
    ("several programs on one perf EVENT -EEXIST", (KPROBE + "one_program_an_event_eexist", WALKS)),
    ("70 kprobe events on one function all run", KPROBE + "many_events_on_one_function"),
    (
        "tracepoint program on kprobe event / sleepable on kprobe -EINVAL",
        KPROBE + "sleepable_program_einval",
    ),
    ("user-space map update with kprobe on htab_map_update_elem", "not modelled: kernel functions of maps"),
    (
        "recursion: bpf_prog_active, nested perf kprobe is missed",
        (
            KPROBE + "while_another_one_is_active_programs_are_skipped_and_counted",
            KPROBE + "a_probe_inside_a_probe_is_missed_by_the_event",
        ),
    ),
    ("uprobe a,b uretprobe r,s: b a FUNC s r", UPROBES + "order_of_probes_is_last_first_at_both_ends"),
    (
        "uprobe: cookie, func_ip, regs.ip = function start; uretprobe ip = caller; ax = return",
        (UPROBES + "registers_at_the_entry", UPROBES + "registers_at_the_return"),
    ),
    ("uprobe.multi errors; perf offset beyond file -EINVAL", UPROBES + "errors_of_events_and_links"),
    (
        "sleepable on uprobe ok; uprobe session program",
        (UPROBES + "programs_may_sleep", UPROBES + "session_runs_at_both_ends_unless_it_says_no"),
    ),
    ("bpf_override_return: config off", "not modelled: bpf_override_return"),
]

TRACEPOINTS: list[tuple[str, Tests]] = [
    (
        "a d b c e: one perf slot FIFO, raw_tp/tp_btf FIFO after it",
        (
            EVENTS + "one_perf_slot_then_raw_tp_and_tp_btf",
            RAW_TP + "raw_tp_and_tp_btf_run_in_the_order_in_which_they_came",
        ),
    ),
    ("raw_tp names: unknown -ENOENT; NULL -EFAULT; tp_btf with a name -EINVAL", RAW_TP + "names"),
    (
        "raw_tp args: ctx[0..11] load; reading past the count fails at OPEN",
        (
            RAW_TP + "loading_allows_twelve_words",
            RAW_TP + "reading_past_the_arguments_einval_at_open",
            LOADS,
        ),
    ),
    (
        "tp_btf arg counts",
        (
            RAW_TP + "argument_counts",
            RAW_TP + "tp_btf_knows_how_many_arguments_there_are",
        ),
    ),
    ("getpgid() with everything attached", EVENTS + "getpgid_with_everything_attached"),
    (
        "tracepoint program reading past the record: SET_BPF -EACCES",
        EVENTS + "reading_past_the_record_eacces",
    ),
    ("one tracepoint: 64, then -E2BIG", EVENTS + "sixty_four_programs_then_e2big"),
    ("raw_tp, tp_btf return value", RAW_TP + "any_result_loads"),
    ("raw_tp_writable", RAW_TP + "writable_programs_need_a_tracepoint_with_a_buffer"),
    ("QUERY_BPF ioctl", "not modelled: ioctl(PERF_EVENT_IOC_QUERY_BPF)"),
]

LSM: list[tuple[str, Tests]] = [
    ("LIFO, first non-zero ends the chain", SECURITY + "lifo_and_the_first_non_zero_ends_the_chain"),
    ("ret argument: previous program's value", SECURITY + "the_ret_argument_is_the_previous_programs_value"),
    (
        "fentry on bpf_lsm_X before, fexit after, sees the final value",
        SECURITY + "fentry_before_fexit_after_and_it_sees_the_final_value",
    ),
    ("errno -71 reaches the caller unchanged", SECURITY + "an_errno_reaches_the_caller_unchanged"),
    ("int hooks return [-4095, 0]; bool-like hooks [0, 1]; void hooks anything; disabled hooks; not a hook", LOADS),
    ("sleepable hooks", (SECURITY + "sleepable_hooks", LOADS)),
    ("same program -EBUSY; 38 then -E2BIG", SECURITY + "same_program_ebusy_and_38_then_e2big"),
    ("link info: type 2, attach_type 27", SECURITY + "info_of_a_link_type_2_attach_type_27"),
    (
        "lsm_cgroup: child first then parent, ALL run; 0 -> EPERM; bpf_set_retval(-13) wins; range [0, 1]; info",
        (
            H + "lsm_cgroup.py::test_child_first_then_parent_and_all_run",
            H + "lsm_cgroup.py::test_a_set_retval_wins",
            H + "lsm_cgroup.py::test_results_are_0_and_1",
            H + "lsm_cgroup.py::test_info",
        ),
    ),
]

S = F + "struct_ops.py::test_"
STRUCT_OPS: list[tuple[str, Tests]] = [
    ("states", (S + "states_of_a_map_that_registers_itself", S + "states_of_a_link_map")),
    (
        "map update registers; again -EBUSY; key 1 -E2BIG; BPF_EXIST -EINVAL",
        S + "update_registers_again_ebusy_key_1_e2big_exist_einval",
    ),
    (
        "LINK_CREATE on a non-link map -EINVAL; delete on a link map -EOPNOTSUPP",
        S + "link_on_a_non_link_map_einval_delete_of_a_link_map_eopnotsupp",
    ),
    ("name clash -EEXIST", S + "name_clash_eexist"),
    ("required members -EINVAL; empty name -EINVAL", (S + "required_members", S + "values_that_are_refused")),
    ("get_info member -524; no write support to tcp_sock", S + "loads_that_are_refused"),
    ("link update, same name other map", S + "link_update_same_name_other_map"),
    (
        "link_detach 0 then map_id 0 and update -ENOLINK; attach again",
        S + "link_detach_then_map_id_0_and_update_enolink",
    ),
    ("update to the map already attached: a bug of the kernel, an errno here", S + "link_update_same_name_other_map"),
    (
        "TEST_RUN of tcp cc program -EOPNOTSUPP; wrong id -524",
        (S + "test_run_of_a_tcp_program_eopnotsupp", S + "loads_that_are_refused"),
    ),
    (
        "bpf_dummy_ops",
        (
            S + "bpf_dummy_ops_register_eopnotsupp",
            "unit/ebpfsim/test_run/test_struct_ops.py::test_null_is_for_test_1",
            "unit/ebpfsim/test_run/test_struct_ops.py::test_the_state_goes_in_and_comes_back",
            "unit/ebpfsim/test_run/test_struct_ops.py::test_arguments_of_test_2",
            "unit/ebpfsim/test_run/test_struct_ops.py::test_refusals",
        ),
    ),
    ("link info: type 9, prog_id 0, map_id", S + "link_info_type_9_prog_id_0_map_id"),
    ("Callback order of own cc", "not modelled here: belongs to TCP"),
]

OTHERS: list[tuple[str, Tests]] = [
    (
        "netkit create (L3): MAC 00:00:00:00:00:00, NOARP; policy 2 = blackhole accepted, policy 1 -EINVAL",
        (
            N + "netkit.py::test_mode_l3_has_no_addresses_and_asks_for_none",
            N + "netkit.py::test_options_that_there_are_not",
        ),
    ),
    (
        "netkit primary program: -1 and 0 delivered; 1, 2, 3, 4, 7, 8, 100 LOST; peer program; info type 13",
        (
            N + "netkit.py::test_verdicts_of_the_primary",
            N + "netkit.py::test_programs_of_the_peer_see_what_it_sends",
            N + "netkit.py::test_who_may_attach",
            N + "netkit.py::test_order_revision_and_info",
        ),
    ),
    (
        "act_bpf: what a1 returns",
        (
            N + "tc.py::test_act_bpf",
            N + "tc.py::test_act_bpf_reclassify_ends_in_a_drop",
            N + "tc.py::test_act_bpf_takes_only_programs_for_it",
        ),
    ),
    (
        "perf_event program on software cpu-clock; second program -EEXIST",
        "unit/tracing/test_perf_event.py::test_cpu_clock_samples_every_period",
    ),
    (
        "iterators: one call per object ordered by id, then a final call with NULL",
        "unit/hooks/test_iter.py::test_maps_in_the_order_of_ids_and_a_last_call_without_one",
    ),
]

LINK_INFO: list[tuple[str, Tests]] = [
    ("netfilter pf, hook, priority i32, flags", H + "netfilter.py::test_links_as_on_linux"),
    ("info_len in = 96, out = 64", INFO + "head_is_type_id_and_program"),
    ("xdp ifindex; tcx ifindex, attach_type 46", INFO + "xdp_ifindex_tcx_ifindex_and_attach_type_46"),
    ("cgroup cgroup_id u64, attach_type u32", INFO + "cgroup_id_u64_and_attach_type_u32"),
    ("tracing attach_type, target_obj_id, target_btf_id", INFO + "tracing_attach_type_target_object_and_function"),
    (
        "raw_tp (also tp_btf) name ptr, name_len = strlen+1",
        INFO + "raw_tp_name_and_its_length_with_the_nul_tp_btf_has_a_name_too",
    ),
    ("iter name ptr, name_len", INFO + "iter_name_and_its_length"),
    ("netns netns_ino, attach_type", INFO + "netns_inode_and_attach_type"),
    ("struct_ops map_id (prog_id 0)", S + "link_commands_as_union_bpf_attr"),
    (
        "perf_event type then kprobe: name, name_len, offset, addr, missed, cookie",
        INFO + "perf_event_type_then_name_length_offset_address_missed_cookie",
    ),
    ("kprobe_multi addrs, count, flags, missed, cookies", INFO + "kprobe_multi_addresses_count_flags_missed_cookies"),
]

CATALOGUE: dict[str, list[tuple[str, Tests]]] = {
    "XDP": XDP, "tc": TC, "Cgroup and sockets": CGROUP, "1 Trampolines": TRAMPOLINES,
    "2 kprobe, kretprobe, multi, session": PROBES, "3 Tracepoints": TRACEPOINTS, "4 LSM": LSM,
    "5 struct_ops": STRUCT_OPS, "6 Traffic, perf": OTHERS, "7 Link info": LINK_INFO,
}  # fmt: skip
