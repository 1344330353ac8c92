// Timers and work queues in an array and a hash: the packet says what is done (byte 0), to which value (1), how (2-7).
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define __ksym __attribute__((section(".ksyms")))

struct bpf_wq {
	__u64 __opaque[2];
} __attribute__((aligned(8)));

extern int bpf_wq_init(struct bpf_wq *wq, void *map, unsigned int flags) __ksym;
extern int bpf_wq_start(struct bpf_wq *wq, unsigned int flags) __ksym;
extern int bpf_wq_set_callback_impl(struct bpf_wq *wq, int (*cb)(void *map, int *key, void *value), unsigned int flags,
				    void *aux) __ksym;

static long (*timer_init)(struct bpf_timer *t, void *map, __u64 flags) = (void *)169;
static long (*timer_set_callback)(struct bpf_timer *t, void *cb) = (void *)170;
static long (*timer_start)(struct bpf_timer *t, __u64 nsecs, __u64 flags) = (void *)171;
static long (*timer_cancel)(struct bpf_timer *t) = (void *)172;
static __u64 (*now_ns)(void) = (void *)5;

struct value {
	__u64 fired;
	__u64 at;
	__u64 period;
	__u32 key;
	__u32 result;
	struct bpf_timer timer;
	struct bpf_wq work;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct value);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct value);
} hash SEC(".maps");

static int expired(void *map, __u32 *key, struct value *value)
{
	value->fired++;
	value->at = now_ns();
	value->key = *key;
	if (value->period)
		timer_start(&value->timer, value->period, 0);
	else
		value->result = timer_cancel(&value->timer);
	return 0;
}

static int worked(void *map, int *key, void *data)
{
	struct value *value = data;

	value->fired += 100;
	value->key = *key;
	return 0;
}

static __always_inline long act(void *map, struct value *value, __u8 *data)
{
	__u64 nsecs = (__u64)data[2] << 24 | data[3] << 16 | data[4] << 8 | data[5];

	switch (data[0]) {
	case 0:
		return timer_init(&value->timer, map, data[6]);
	case 1:
		return timer_set_callback(&value->timer, expired);
	case 2:
		return timer_start(&value->timer, nsecs, data[6]);
	case 3:
		return timer_cancel(&value->timer);
	case 4:
		value->period = nsecs;
		return 0;
	case 5:
		return bpf_wq_init(&value->work, map, data[6]);
	case 6:
		return bpf_wq_set_callback_impl(&value->work, worked, data[6], 0);
	case 7:
		return bpf_wq_start(&value->work, data[6]);
	}
	return 0;
}

SEC("xdp")
int later(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct value *value;
	__u32 key;

	if (data + 14 > end)
		return -1;
	key = data[1];
	if (data[7]) {
		value = bpf_map_lookup_elem(&hash, &key);
		return value ? act(&hash, value, data) : -2;
	}
	value = bpf_map_lookup_elem(&array, &key);
	return value ? act(&array, value, data) : -2;
}

char _license[] SEC("license") = "GPL";
