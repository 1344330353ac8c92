// Red-black trees and lists of objects: the shape after insertions and removals, order, reference counts, kptrs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <stddef.h>
#include <stdbool.h>

#define __ksym __attribute__((section(".ksyms")))
#define OPAQUE(name, words) struct name { __u64 __opaque[words]; } __attribute__((aligned(8)))
OPAQUE(bpf_list_head, 2);
OPAQUE(bpf_list_node, 3);
OPAQUE(bpf_rb_root, 2);
OPAQUE(bpf_rb_node, 4);
struct bpf_refcount {
	__u32 __opaque[1];
} __attribute__((aligned(4)));

#define __contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
#define __kptr_ __attribute__((btf_type_tag("kptr")))
#define private(name) SEC(".data." #name) __attribute__((visibility("hidden"), aligned(8)))

extern void *bpf_obj_new_impl(__u64 local_type_id, void *meta) __ksym;
extern void bpf_obj_drop_impl(void *kptr, void *meta) __ksym;
extern void *bpf_refcount_acquire_impl(void *kptr, void *meta) __ksym;
extern int bpf_list_push_front_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, __u64 off) __ksym;
extern int bpf_list_push_back_impl(struct bpf_list_head *head, struct bpf_list_node *node, void *meta, __u64 off) __ksym;
extern struct bpf_list_node *bpf_list_pop_front(struct bpf_list_head *head) __ksym;
extern struct bpf_list_node *bpf_list_pop_back(struct bpf_list_head *head) __ksym;
extern struct bpf_list_node *bpf_list_front(struct bpf_list_head *head) __ksym;
extern struct bpf_list_node *bpf_list_back(struct bpf_list_head *head) __ksym;
extern struct bpf_rb_node *bpf_rbtree_remove(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
extern int bpf_rbtree_add_impl(struct bpf_rb_root *root, struct bpf_rb_node *node,
			       bool (less)(struct bpf_rb_node *a, const struct bpf_rb_node *b), void *meta, __u64 off) __ksym;
extern struct bpf_rb_node *bpf_rbtree_first(struct bpf_rb_root *root) __ksym;
extern struct bpf_rb_node *bpf_rbtree_root(struct bpf_rb_root *root) __ksym;
extern struct bpf_rb_node *bpf_rbtree_left(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;
extern struct bpf_rb_node *bpf_rbtree_right(struct bpf_rb_root *root, struct bpf_rb_node *node) __ksym;

static void *(*bpf_kptr_xchg)(void *place, void *ptr) = (void *)194;

#define new(type) ((type *)bpf_obj_new_impl(__builtin_btf_type_id(*(type *)0, 0), NULL))
#define drop(p) bpf_obj_drop_impl(p, NULL)
#define entry(ptr) ((struct item *)((void *)(ptr) - offsetof(struct item, node)))
#define list_entry(ptr) ((struct item *)((void *)(ptr) - offsetof(struct item, link)))

struct item {
	struct bpf_rb_node node;
	struct bpf_list_node link;
	struct bpf_refcount ref;
	__u32 key;
};

struct slot {
	struct item __kptr_ *kept;
	__u32 swaps;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

private(A) struct bpf_spin_lock lock;
private(A) struct bpf_rb_root tree __contains(item, node);
private(A) struct bpf_list_head list __contains(item, link);

// what was seen: keys of the topmost nodes, first in order, counts
__u32 shape[8];
__u32 first_key, popped, refused, ends;

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return entry(a)->key < entry(b)->key;
}

static __u32 key_of(struct bpf_rb_node *node)
{
	return node ? entry(node)->key + 1 : 0;
}

static __always_inline void look(void)
{
	struct bpf_rb_node *top, *left, *right;

	top = bpf_rbtree_root(&tree);
	shape[0] = key_of(top);
	if (!top)
		return;
	left = bpf_rbtree_left(&tree, top);
	right = bpf_rbtree_right(&tree, top);
	shape[1] = key_of(left);
	shape[2] = key_of(right);
	if (left) {
		shape[3] = key_of(bpf_rbtree_left(&tree, left));
		shape[4] = key_of(bpf_rbtree_right(&tree, left));
	}
	if (right) {
		shape[5] = key_of(bpf_rbtree_left(&tree, right));
		shape[6] = key_of(bpf_rbtree_right(&tree, right));
	}
}

static __always_inline int insert(__u32 key)
{
	struct item *item = new(struct item), *again;

	if (!item)
		return -1;
	item->key = key;
	again = bpf_refcount_acquire_impl(item, NULL);
	bpf_spin_lock(&lock);
	bpf_rbtree_add_impl(&tree, &item->node, less, NULL, 0);
	if (key & 1)
		bpf_list_push_front_impl(&list, &again->link, NULL, 0);
	else
		bpf_list_push_back_impl(&list, &again->link, NULL, 0);
	bpf_spin_unlock(&lock);
	return 0;
}

static __always_inline void remove_near(__u32 side)
{
	struct bpf_rb_node *node, *taken = NULL;

	bpf_spin_lock(&lock);
	node = bpf_rbtree_root(&tree);
	if (node && side == 1)
		node = bpf_rbtree_left(&tree, node);
	else if (node && side == 2)
		node = bpf_rbtree_right(&tree, node);
	else if (side == 3)
		node = bpf_rbtree_first(&tree);
	if (node)
		taken = bpf_rbtree_remove(&tree, node);
	bpf_spin_unlock(&lock);
	if (taken) {
		popped = popped * 31 + entry(taken)->key;
		drop(entry(taken));
	}
}

static __always_inline void shorten(__u32 back)
{
	struct bpf_list_node *node;

	bpf_spin_lock(&lock);
	node = back ? bpf_list_pop_back(&list) : bpf_list_pop_front(&list);
	bpf_spin_unlock(&lock);
	if (node) {
		ends = ends * 31 + list_entry(node)->key;
		drop(list_entry(node));
	}
}

static __always_inline void stash(__u32 where, __u32 key)
{
	struct slot *slot;
	struct item *item, *old;

	where &= 1;
	slot = bpf_map_lookup_elem(&slots, &where);
	if (!slot)
		return;
	item = new(struct item);
	if (!item)
		return;
	item->key = key;
	old = bpf_kptr_xchg(&slot->kept, item);
	slot->swaps++;
	if (old) {
		refused += old->key;
		drop(old);
	}
}

SEC("xdp")
int trees(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct bpf_rb_node *first;
	int i;

	if (data + 46 > end)
		return XDP_ABORTED;
	for (i = 0; i < 7; i++)
		insert(data[14 + i]);
	remove_near(data[25] & 3);
	remove_near(data[33] & 3);
	shorten(data[33] & 1);
	shorten(0);
	stash(data[25], data[33]);
	bpf_spin_lock(&lock);
	look();
	first = bpf_rbtree_first(&tree);
	if (first)
		first_key = entry(first)->key;
	bpf_spin_unlock(&lock);
	return XDP_PASS;
}

char _license[] SEC("license") = "GPL";
