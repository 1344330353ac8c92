// Programs on records of tracepoints, as SEC() names them: what they saw is in ``flags`` and ``prev_pid``.
#include "../bpf/common.h"

struct trace_event_raw_sched_switch {
	int prev_pid;
} __attribute__((preserve_access_index));

struct openat_record {
	__u64 common;
	int nr;
	__u64 dfd, filename, flags, mode;
};

__u64 flags;
int prev_pid = -1;

SEC("tp/syscalls/sys_enter_openat")
int by_tp(struct openat_record *ctx)
{
	flags = ctx->flags;
	return 0;
}

SEC("tracepoint/sched/sched_switch")
int by_tracepoint(struct trace_event_raw_sched_switch *ctx)
{
	if (prev_pid < 0)
		prev_pid = ctx->prev_pid;
	return 0;
}
