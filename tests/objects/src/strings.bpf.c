// The kernel's functions on strings and bits, on bytes of the packet.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __ksym __attribute__((section(".ksyms")))
struct bpf_iter_bits {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

extern int bpf_strcmp(const char *a, const char *b) __ksym;
extern int bpf_strcasecmp(const char *a, const char *b) __ksym;
extern int bpf_strchr(const char *s, char c) __ksym;
extern int bpf_strchrnul(const char *s, char c) __ksym;
extern int bpf_strnchr(const char *s, unsigned long count, char c) __ksym;
extern int bpf_strrchr(const char *s, int c) __ksym;
extern int bpf_strnlen(const char *s, unsigned long count) __ksym;
extern int bpf_strlen(const char *s) __ksym;
extern int bpf_strspn(const char *s, const char *accept) __ksym;
extern int bpf_strcspn(const char *s, const char *reject) __ksym;
extern int bpf_strstr(const char *s, const char *t) __ksym;
extern int bpf_strnstr(const char *s, const char *t, unsigned long len) __ksym;
extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *words, __u32 count) __ksym;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) __ksym;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) __ksym;

char text[64], other[16];
__u64 words[3];
int found[24];
__u32 bits, count, wrong;

SEC("xdp")
int strings(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct bpf_iter_bits it;
	int i, n = 0, *bit;

	if (data + 54 > end)
		return XDP_ABORTED;
	for (i = 0; i < 40; i++)
		text[i] = data[14 + i] | 0x40;
	for (i = 0; i < 5; i++)
		other[i] = data[30 + i] | 0x40;
	__builtin_memcpy(words, data + 14, 24);
	found[n++] = bpf_strlen(text);
	found[n++] = bpf_strnlen(text, 7);
	found[n++] = bpf_strnlen(text, 1 << 20);
	found[n++] = bpf_strcmp(text, other);
	found[n++] = bpf_strcmp(text + 16, other);
	found[n++] = bpf_strcasecmp(text, other);
	found[n++] = bpf_strchr(text, 0x4a);
	found[n++] = bpf_strchr(text, 0);
	found[n++] = bpf_strchrnul(text, 0x4a);
	found[n++] = bpf_strnchr(text, 12, 0x4a);
	found[n++] = bpf_strnchr(text, 1 << 20, 0x3f);
	found[n++] = bpf_strrchr(text, 0x40);
	found[n++] = bpf_strspn(text, "@ABEH");
	found[n++] = bpf_strcspn(text, other + 1);
	found[n++] = bpf_strstr(text, other);
	found[n++] = bpf_strnstr(text, other, 18);
	found[n++] = bpf_strnstr(text, other, 21);
	found[n++] = bpf_strstr(text, "");
	found[n++] = bpf_strlen((const char *)8);
	found[n++] = bpf_strlen((const char *)0xffff000000000000ULL);
	bits = count = 0;
	bpf_iter_bits_new(&it, words, 3);
	while ((bit = bpf_iter_bits_next(&it))) {
		bits = bits * 7 + *bit;
		count++;
	}
	bpf_iter_bits_destroy(&it);
	bpf_iter_bits_new(&it, words + 1, 1);
	while ((bit = bpf_iter_bits_next(&it)))
		bits = bits * 7 + *bit;
	bpf_iter_bits_destroy(&it);
	wrong = bpf_iter_bits_new(&it, words, 512);
	bpf_iter_bits_destroy(&it);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
