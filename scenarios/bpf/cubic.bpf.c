// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// CUBIC with HyStart (RFC 9438, RFC 9406 in Linux' older form) as a table of functions, in the integers of
// net/ipv4/tcp_cubic.c. TCP calls it for every socket that has chosen "bpf_cubic".
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#define __ksym __attribute__((section(".ksyms")))
static __u64 (*const bpf_jiffies64)(void) = (void *)BPF_FUNC_jiffies64;

struct sock {
	unsigned long sk_pacing_rate;
} KERNEL_STRUCT;
struct inet_connection_sock {
	__u64 icsk_ca_priv[13];
} KERNEL_STRUCT;
struct tcp_sock {
	__u64 tcp_mstamp;
	__u32 snd_cwnd;
	__u32 snd_cwnd_cnt;
	__u32 snd_cwnd_clamp;
	__u32 snd_ssthresh;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 lsndtime;
	__u32 prior_cwnd;
	__u32 max_packets_out;
	__u8 is_cwnd_limited : 1;
} KERNEL_STRUCT;
struct ack_sample {
	__u32 pkts_acked;
	__s32 rtt_us;
} KERNEL_STRUCT;
struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	void (*set_state)(struct sock *sk, __u8 new_state);
	void (*cwnd_event)(struct sock *sk, int event);
	void (*pkts_acked)(struct sock *sk, const struct ack_sample *sample);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	char name[16];
};

extern __u32 tcp_slow_start(struct tcp_sock *tp, __u32 acked) __ksym;
extern void tcp_cong_avoid_ai(struct tcp_sock *tp, __u32 w, __u32 acked) __ksym;
extern __u32 tcp_reno_undo_cwnd(struct sock *sk) __ksym;

#define HZ 250
#define USEC_PER_SEC 1000000ULL
#define CA_EVENT_TX_START 0
#define TCP_CA_LOSS 4
#define SCALE 1024
#define BETA 717 /* of SCALE */
#define C 41 /* of SCALE, for windows a round trip of 100 ms */
#define FRACTION 10 /* bits of time behind the second */
#define RTT_SCALE (C * 10)
#define FRIENDLY (8 * (SCALE + BETA) / 3 / (SCALE - BETA)) /* of 8 */
#define FACTOR ((1ULL << (10 + 3 * FRACTION)) / RTT_SCALE)
#define LOW_WINDOW 16
#define MIN_SAMPLES 8
#define TRAIN_US 2000

// what a connection keeps
struct cubic {
	__u32 count; // segments for one more of the window
	__u32 last_max; // the window at the last loss
	__u32 seen_cwnd, seen_at; // when count was computed, and for which window
	__u32 origin, k; // the plateau of the curve, and when it is reached
	__u32 least_us; // the least round trip
	__u32 epoch; // when the curve began, 0 when it has to begin anew
	__u32 acked, reno; // what Reno would have, and segments that do not count for it yet
	__u32 round_end, round_began_us, last_ack_us, round_rtt_us;
	__u8 samples, found;
};

static __u32 now_ticks(void)
{
	return bpf_jiffies64();
}

static struct cubic *state_of(void *sk)
{
	return (struct cubic *)((struct inet_connection_sock *)sk)->icsk_ca_priv;
}

static int is_after(__u32 one, __u32 other)
{
	return (__s32)(other - one) < 0;
}

static void begin(struct cubic *ca)
{
	ca->count = ca->last_max = ca->seen_cwnd = ca->seen_at = 0;
	ca->origin = ca->k = ca->least_us = ca->epoch = ca->acked = ca->reno = 0;
	ca->found = 0;
}

static void begin_round(struct tcp_sock *tp, struct cubic *ca)
{
	ca->round_began_us = ca->last_ack_us = tp->tcp_mstamp;
	ca->round_end = tp->snd_nxt;
	ca->round_rtt_us = ~0U;
	ca->samples = 0;
}

// cubic roots of 0 to 63 times 2^18, from which a step of Newton's leads to any other
static const __u8 ROOTS[] = {
	0, 54, 54, 54, 118, 118, 118, 118, 123, 129, 134, 138, 143, 147, 151, 156,
	157, 161, 164, 168, 170, 173, 176, 179, 181, 185, 187, 190, 192, 194, 197, 199,
	200, 202, 204, 206, 209, 211, 213, 215, 217, 219, 221, 222, 224, 225, 227, 229,
	231, 232, 234, 236, 237, 239, 240, 242, 244, 245, 246, 248, 250, 251, 252, 254,
};

static __u32 bits_of(__u64 value)
{
	__u32 bits = 0;

#pragma unroll
	for (int step = 32; step; step >>= 1) {
		if (value >> step) {
			value >>= step;
			bits += step;
		}
	}
	return value ? bits + 1 : bits;
}

static __u32 root(__u64 a)
{
	__u32 shift, x;
	__u64 first;

	if (a < 64)
		return ((__u32)ROOTS[a & 63] + 35) >> 6;
	shift = ((bits_of(a) * 84) >> 8) - 1;
	first = a >> ((shift * 3) & 63);
	if (first >= 64)
		return 0;
	x = (((__u32)ROOTS[first & 63] + 10) << (shift & 31)) >> 6;
	x = 2 * x + (__u32)(a / ((__u64)x * (x - 1)));
	return (x * 341) >> 10;
}

static void not_slower_than_reno(struct cubic *ca, __u32 cwnd)
{
	__u32 each = (cwnd * FRIENDLY) >> 3;

	if (each && ca->acked > each) {
		// as often as it is more than that
		__u32 times = (ca->acked - 1) / each;

		ca->acked -= times * each;
		ca->reno += times;
	}
	if (ca->reno > cwnd) {
		__u32 most = cwnd / (ca->reno - cwnd);

		if (ca->count > most)
			ca->count = most;
	}
	if (ca->count < 2)
		ca->count = 2;
}

static void update(struct cubic *ca, __u32 cwnd, __u32 acked)
{
	__u32 now = now_ticks(), target, delta;
	__u64 t, away;

	ca->acked += acked;
	if (ca->seen_cwnd == cwnd && (__s32)(now - ca->seen_at) <= HZ / 32)
		return;
	if (ca->epoch && now == ca->seen_at) {
		// once a tick
		not_slower_than_reno(ca, cwnd);
		return;
	}
	ca->seen_cwnd = cwnd;
	ca->seen_at = now;
	if (!ca->epoch) {
		ca->epoch = now;
		ca->acked = acked;
		ca->reno = cwnd;
		if (ca->last_max <= cwnd) {
			ca->k = 0;
			ca->origin = cwnd;
		} else {
			ca->k = root(FACTOR * (ca->last_max - cwnd));
			ca->origin = ca->last_max;
		}
	}
	t = (__u64)(__s32)(now - ca->epoch) * (USEC_PER_SEC / HZ) + ca->least_us;
	t = (t << FRACTION) / USEC_PER_SEC;
	away = t < ca->k ? ca->k - t : t - ca->k;
	delta = (RTT_SCALE * away * away * away) >> (10 + 3 * FRACTION);
	target = t < ca->k ? ca->origin - delta : ca->origin + delta;
	if (target > cwnd)
		ca->count = cwnd / (target - cwnd);
	else
		ca->count = 100 * cwnd;
	if (!ca->last_max && ca->count > 20)
		ca->count = 20;
	not_slower_than_reno(ca, cwnd);
}

// enum bpf_field_info_kind: where a bit field lies in the kernel that runs
#define FIELD_BYTE_OFFSET 0
#define FIELD_LSHIFT_U64 4
#define FIELD_RSHIFT_U64 5

static int is_cwnd_limited(const struct tcp_sock *tp)
{
	__u64 bits;

	bits = *(const __u8 *)((const char *)tp + __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_BYTE_OFFSET));
	bits <<= __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_LSHIFT_U64);
	bits >>= __builtin_preserve_field_info(tp->is_cwnd_limited, FIELD_RSHIFT_U64);
	if (bits)
		return 1;
	return tp->snd_cwnd < tp->snd_ssthresh && tp->snd_cwnd < 2 * tp->max_packets_out;
}

SEC("struct_ops")
void cubic_init(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	struct cubic *ca = state_of(tp);

	begin(ca);
	begin_round(tp, ca);
}

SEC("struct_ops")
void cubic_cwnd_event(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	struct cubic *ca = state_of(tp);
	__u32 now = now_ticks();
	__s32 idle;

	if ((__u32)ctx[1] != CA_EVENT_TX_START)
		return;
	// the curve goes on where it was
	idle = now - tp->lsndtime;
	if (ca->epoch && idle > 0) {
		ca->epoch += idle;
		if (is_after(ca->epoch, now))
			ca->epoch = now;
	}
}

SEC("struct_ops")
void cubic_cong_avoid(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	struct cubic *ca = state_of(tp);
	__u32 acked = ctx[2];

	if (!is_cwnd_limited(tp))
		return;
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		acked = tcp_slow_start(tp, acked);
		if (!acked)
			return;
	}
	update(ca, tp->snd_cwnd, acked);
	tcp_cong_avoid_ai(tp, ca->count, acked);
}

SEC("struct_ops")
__u32 cubic_ssthresh(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	struct cubic *ca = state_of(tp);
	__u32 cwnd = tp->snd_cwnd, less = cwnd * BETA / SCALE;

	ca->epoch = 0;
	// others may want what this one had
	ca->last_max = cwnd < ca->last_max ? cwnd * (SCALE + BETA) / (2 * SCALE) : cwnd;
	return less > 2 ? less : 2;
}

SEC("struct_ops")
void cubic_set_state(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	struct cubic *ca = state_of(tp);

	if ((__u8)ctx[1] == TCP_CA_LOSS) {
		begin(ca);
		begin_round(tp, ca);
	}
}

SEC("struct_ops")
__u32 cubic_undo_cwnd(__u64 *ctx)
{
	return tcp_reno_undo_cwnd((struct sock *)ctx[0]);
}

static void leave_slow_start(struct tcp_sock *tp, struct cubic *ca, __u32 rtt_us)
{
	__u32 now_us = tp->tcp_mstamp, threshold;

	if (is_after(tp->snd_una, ca->round_end))
		begin_round(tp, ca);
	// ACKs that follow each other closely, for longer than half a round trip
	if ((__s32)(now_us - ca->last_ack_us) <= TRAIN_US) {
		__u64 rate = ((struct sock *)tp)->sk_pacing_rate, burst_us = 0;

		ca->last_ack_us = now_us;
		if (rate)
			burst_us = 65536 * 4 * USEC_PER_SEC / rate;
		threshold = (ca->least_us + (burst_us < 1000 ? burst_us : 1000)) >> 1;
		if ((__s32)(now_us - ca->round_began_us) > (__s32)threshold) {
			ca->found = 1;
			tp->snd_ssthresh = tp->snd_cwnd;
		}
	}
	// or a round trip that grows
	if (ca->round_rtt_us > rtt_us)
		ca->round_rtt_us = rtt_us;
	if (ca->samples < MIN_SAMPLES) {
		ca->samples++;
		return;
	}
	threshold = ca->least_us >> 3;
	if (threshold < 4000)
		threshold = 4000;
	if (threshold > 16000)
		threshold = 16000;
	if (ca->round_rtt_us > ca->least_us + threshold) {
		ca->found = 1;
		tp->snd_ssthresh = tp->snd_cwnd;
	}
}

SEC("struct_ops")
void cubic_pkts_acked(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	const struct ack_sample *sample = (const struct ack_sample *)ctx[1];
	struct cubic *ca = state_of(tp);
	__u32 rtt_us;

	if (sample->rtt_us < 0)
		return;
	// the first second after a loss does not count
	if (ca->epoch && (__s32)(now_ticks() - ca->epoch) < HZ)
		return;
	rtt_us = sample->rtt_us ? sample->rtt_us : 1;
	if (!ca->least_us || ca->least_us > rtt_us)
		ca->least_us = rtt_us;
	if (!ca->found && tp->snd_cwnd < tp->snd_ssthresh && tp->snd_cwnd >= LOW_WINDOW)
		leave_slow_start(tp, ca, rtt_us);
}

SEC(".struct_ops.link")
struct tcp_congestion_ops cubic = {
	.init = (void *)cubic_init,
	.ssthresh = (void *)cubic_ssthresh,
	.cong_avoid = (void *)cubic_cong_avoid,
	.set_state = (void *)cubic_set_state,
	.undo_cwnd = (void *)cubic_undo_cwnd,
	.cwnd_event = (void *)cubic_cwnd_event,
	.pkts_acked = (void *)cubic_pkts_acked,
	.name = "bpf_cubic",
};

char LICENSE[] SEC("license") = "GPL";
