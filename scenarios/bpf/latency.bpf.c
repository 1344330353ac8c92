// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// How long functions take: a probe at the beginning notes the time, one at the return takes the difference. The same
// two programs are attached to several functions; the cookie of an attachment says which one it is.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct call {
	__u64 pid_tgid;
	__u64 cookie;
};

struct latency {
	__u64 calls;
	__u64 failed;
	__u64 total_ns;
	__u64 longest_ns;
};

struct event {
	__u32 pid;
	__s32 result;
	__u64 cookie;
	__u64 ns;
	char comm[16];
};
struct event *unused_event __attribute__((unused)); // for the type to be in BTF

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct call);
	__type(value, __u64);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u64);
	__type(value, struct latency);
} latencies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("kprobe")
int BPF_KPROBE(enter)
{
	struct call call = { bpf_get_current_pid_tgid(), bpf_get_attach_cookie(ctx) };
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&started, &call, &now, BPF_ANY);
	return 0;
}

SEC("kretprobe")
int BPF_KRETPROBE(leave, int result)
{
	struct call call = { bpf_get_current_pid_tgid(), bpf_get_attach_cookie(ctx) };
	struct latency *latency, first = {};
	__u64 *since = bpf_map_lookup_elem(&started, &call);
	struct event *event;
	__u64 ns;

	if (!since)
		return 0;
	ns = bpf_ktime_get_ns() - *since;
	bpf_map_delete_elem(&started, &call);

	latency = bpf_map_lookup_elem(&latencies, &call.cookie);
	if (!latency) {
		bpf_map_update_elem(&latencies, &call.cookie, &first, BPF_NOEXIST);
		latency = bpf_map_lookup_elem(&latencies, &call.cookie);
		if (!latency)
			return 0;
	}
	__sync_fetch_and_add(&latency->calls, 1);
	__sync_fetch_and_add(&latency->total_ns, ns);
	if (result < 0)
		__sync_fetch_and_add(&latency->failed, 1);
	if (ns > latency->longest_ns)
		latency->longest_ns = ns;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = call.pid_tgid >> 32;
	event->result = result;
	event->cookie = call.cookie;
	event->ns = ns;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
