// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Who opens which file, and what comes of it: programs on the records of two tracepoints, on the way into openat() and
// on the way out.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// /sys/kernel/tracing/events/syscalls/sys_enter_openat/format
struct enter_openat {
	__u64 common;
	__s32 nr;
	__u64 dfd;
	const char *filename;
	__u64 flags;
	__u64 mode;
};

// .../sys_exit_openat/format
struct exit_openat {
	__u64 common;
	__s32 nr;
	__s64 ret;
};

struct event {
	__u32 pid;
	__s32 result;
	__u64 ns;
	char comm[16];
	char name[32];
};
struct event *unused_event __attribute__((unused)); // for the type to be in BTF

struct start {
	__u64 ns;
	const char *filename;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u64);
	__type(value, struct start);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_openat")
int enter(struct enter_openat *ctx)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct start start = { bpf_ktime_get_ns(), ctx->filename };

	bpf_map_update_elem(&started, &task, &start, BPF_ANY);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int leave(struct exit_openat *ctx)
{
	__u64 task = bpf_get_current_pid_tgid();
	struct start *start = bpf_map_lookup_elem(&started, &task);
	struct event *event;

	if (!start)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->pid = task >> 32;
		event->result = ctx->ret;
		event->ns = bpf_ktime_get_ns() - start->ns;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		bpf_probe_read_user_str(event->name, sizeof(event->name), start->filename);
		bpf_ringbuf_submit(event, 0);
	}
	bpf_map_delete_elem(&started, &task);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
