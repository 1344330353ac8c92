// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A profiler: each sample counts for the task that was interrupted, and for the stack of its user space.
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <bpf/bpf_helpers.h>

struct count {
	__u64 samples;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct count);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __s64);
	__type(value, __u64);
} by_stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 4 * sizeof(__u64));
} stacks SEC(".maps");

// what the event had counted at the last sample, and the period that the samples came with
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} last SEC(".maps");

SEC("perf_event")
int sample(struct bpf_perf_event_data *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32, zero = 0, one = 1;
	struct bpf_perf_event_value value;
	struct count first = {}, *count;
	__u64 none = 0, period, *stack_count;
	__s64 stack;

	bpf_get_current_comm(first.comm, sizeof(first.comm));
	bpf_map_update_elem(&tasks, &pid, &first, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&tasks, &pid);
	if (count)
		count->samples++;

	stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	bpf_map_update_elem(&by_stack, &stack, &none, BPF_NOEXIST);
	stack_count = bpf_map_lookup_elem(&by_stack, &stack);
	if (stack_count)
		*stack_count += 1;

	if (!bpf_perf_prog_read_value(ctx, &value, sizeof(value)))
		bpf_map_update_elem(&last, &zero, &value.counter, BPF_ANY);
	period = ctx->sample_period;
	bpf_map_update_elem(&last, &one, &period, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
