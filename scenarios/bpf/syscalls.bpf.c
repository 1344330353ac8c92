// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// System calls, counted by task and by number, at the tracepoint that each one passes on its way in.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct calls {
	__u64 count;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct calls);
} by_pid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 512);
	__type(key, __u64);
	__type(value, __u64);
} by_number SEC(".maps");

// the tracepoint's arguments: struct pt_regs *, and the number of the call
SEC("raw_tp/sys_enter")
int count_calls(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct calls first = {}, *calls;
	__u64 number = ctx->args[1], zero = 0, *count;

	bpf_get_current_comm(first.comm, sizeof(first.comm));
	bpf_map_update_elem(&by_pid, &pid, &first, BPF_NOEXIST);
	calls = bpf_map_lookup_elem(&by_pid, &pid);
	if (calls)
		calls->count++;
	bpf_map_update_elem(&by_number, &number, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&by_number, &number);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
