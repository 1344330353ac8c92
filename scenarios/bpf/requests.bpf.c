// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Requests of a server in user space: what it is asked, how long it thinks, and what comes of it. Probes at the
// beginning and at the return of its function handle(), and one at the static tracepoint shop:refused.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

struct event {
	__u32 pid;
	__s32 result;
	__u64 ns;
	__u64 customer;
	char goods[16];
};
struct event *unused_event __attribute__((unused)); // for the type to be in BTF

struct request {
	__u64 ns;
	__u64 customer;
	const char *goods;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct request);
} open SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

// reason -> how often
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __s64);
	__type(value, __u64);
} refused SEC(".maps");

SEC("uprobe//usr/bin/shop:handle")
int BPF_KPROBE(enter, __u64 customer, const char *goods)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct request request = { bpf_ktime_get_ns(), customer, goods };

	bpf_map_update_elem(&open, &task, &request, BPF_ANY);
	return 0;
}

SEC("uretprobe//usr/bin/shop:handle")
int BPF_KRETPROBE(leave, int result)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct request *request = bpf_map_lookup_elem(&open, &task);
	struct event *event;

	if (!request)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->pid = task >> 32;
		event->result = result;
		event->ns = bpf_ktime_get_ns() - request->ns;
		event->customer = request->customer;
		bpf_probe_read_user_str(event->goods, sizeof(event->goods), request->goods);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&open, &task);
	return 0;
}

SEC("usdt//usr/bin/shop:shop:refused")
int refuse(struct pt_regs *ctx)
{
	__u64 zero = 0, *count;
	long reason;

	if (bpf_usdt_arg(ctx, 1, &reason))
		return 0;
	bpf_map_update_elem(&refused, &reason, &zero, BPF_NOEXIST);
	count = bpf_map_lookup_elem(&refused, &reason);
	if (count)
		__sync_fetch_and_add(count, 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
