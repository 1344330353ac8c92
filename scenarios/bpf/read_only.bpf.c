// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// A machine that becomes read-only for ordinary users: fmod_ret runs before security_file_open(), and what it returns,
// unless it is 0, takes the place of the function's result. Nobody else is asked then.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define FMODE_WRITE 2 // include/linux/fs.h
#define EROFS 30

struct file {
	unsigned int f_mode;
} KERNEL_STRUCT;

SEC("fmod_ret/security_file_open")
int BPF_PROG(refuse_writers, struct file *file, int result)
{
	__u32 uid = bpf_get_current_uid_gid();

	if (result || !uid || !(file->f_mode & FMODE_WRITE))
		return result;
	bpf_printk("read-only: user %d may not write", uid);
	return -EROFS;
}

char LICENSE[] SEC("license") = "GPL";
