// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Who reads what: fentry and fexit of vfs_read() get its arguments with their types, fexit its result as well.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct qstr {
	const unsigned char *name;
} KERNEL_STRUCT;
struct dentry {
	struct qstr d_name;
} KERNEL_STRUCT;
struct path {
	struct dentry *dentry;
} KERNEL_STRUCT;
struct file {
	struct path f_path;
} KERNEL_STRUCT;

struct reads {
	__u64 begun;
	__u64 done;
	__u64 failed;
	__u64 bytes;
};

struct event {
	__u32 pid;
	__u32 wanted;
	__s64 result;
	char comm[16];
	char name[32];
};
struct event *unused_event __attribute__((unused)); // for the type to be in BTF

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct reads);
} by_pid SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("fentry/vfs_read")
int BPF_PROG(read_begins, struct file *file, char *buf, __u64 count)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct reads first = {}, *reads;

	bpf_map_update_elem(&by_pid, &pid, &first, BPF_NOEXIST);
	reads = bpf_map_lookup_elem(&by_pid, &pid);
	if (reads)
		reads->begun++;
	return 0;
}

SEC("fexit/vfs_read")
int BPF_PROG(read_ends, struct file *file, char *buf, __u64 count, __s64 *pos, __s64 result)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct reads *reads = bpf_map_lookup_elem(&by_pid, &pid);
	struct event *event;

	if (!reads)
		return 0;
	reads->done++;
	if (result < 0)
		reads->failed++;
	else
		reads->bytes += result;

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->pid = pid;
	event->wanted = count;
	event->result = result;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_probe_read_kernel_str(event->name, sizeof(event->name), file->f_path.dentry->d_name.name);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
