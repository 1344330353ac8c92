// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A table of tasks, as ps prints one: the kernel calls the program for each task when somebody reads the iterator, and
// what the program writes is what is read.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct uid {
	unsigned int val;
};
struct cred {
	struct uid uid;
} KERNEL_STRUCT;
struct task_struct {
	int pid;
	int tgid;
	const struct cred *cred;
	char comm[16];
} KERNEL_STRUCT;
struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
} KERNEL_STRUCT;
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} KERNEL_STRUCT;

SEC("iter/task")
int show_tasks(struct bpf_iter__task *ctx)
{
	static const char head[] = "  PID   UID COMMAND\n", row[] = "%5d %5d %s\n";
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	__u64 words[3];

	// the last call, without a task
	if (!task)
		return 0;
	if (ctx->meta->seq_num == 0)
		bpf_seq_write(seq, head, sizeof(head) - 1);
	words[0] = task->pid;
	words[1] = task->cred->uid.val;
	words[2] = (long)task->comm;
	bpf_seq_printf(seq, row, sizeof(row), words, sizeof(words));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
