// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A security module of twenty lines: one user may open nothing below a folder of a certain name, whatever the files'
// permissions say. Each refusal is told in a ring buffer.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define EPERM 1
#define NAME_BYTES 32
#define DEEPEST 16

struct qstr {
	const unsigned char *name;
} KERNEL_STRUCT;
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
} KERNEL_STRUCT;
struct path {
	struct dentry *dentry;
} KERNEL_STRUCT;
struct file {
	struct path f_path;
} KERNEL_STRUCT;

struct event {
	__u32 pid;
	__u32 uid;
	char comm[16];
	char name[NAME_BYTES];
};
struct event *unused_event __attribute__((unused)); // for the type to be in BTF

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

// set before the program is loaded
const volatile __u32 denied_uid = 0;
const volatile char folder[NAME_BYTES] = "";

static __always_inline int is_folder(struct dentry *dentry)
{
	char name[NAME_BYTES] = {};
	int i;

	bpf_probe_read_kernel_str(name, sizeof(name), dentry->d_name.name);
	for (i = 0; i < NAME_BYTES; i++) {
		if (name[i] != folder[i])
			return 0;
		if (!name[i])
			break;
	}
	return 1;
}

SEC("lsm/file_open")
int BPF_PROG(deny_open, struct file *file, int result)
{
	__u32 uid = bpf_get_current_uid_gid();
	struct dentry *dentry = file->f_path.dentry;
	struct event *event;
	int depth;

	// another program said no already, or this user is none of our business
	if (result || uid != denied_uid)
		return result;
	for (depth = 0; depth < DEEPEST; depth++) {
		if (is_folder(dentry))
			break;
		dentry = dentry->d_parent; // the root is its own parent
	}
	if (depth == DEEPEST)
		return 0;
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (event) {
		event->pid = bpf_get_current_pid_tgid() >> 32;
		event->uid = uid;
		bpf_get_current_comm(event->comm, sizeof(event->comm));
		bpf_probe_read_kernel_str(event->name, sizeof(event->name), file->f_path.dentry->d_name.name);
		bpf_ringbuf_submit(event, 0);
	}
	return -EPERM;
}

char LICENSE[] SEC("license") = "GPL";
