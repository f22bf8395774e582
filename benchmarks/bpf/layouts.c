// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright the udpgrm authors
/*
 * One operation (PART) on a table of flows, each time of another flow: on the kernel's LRU hash, as
 * flow tables are, and on buckets in an array, as they could be. MAP(FLOW_TABLES) is the one,
 * MAP(SLOTS) the other, and MAP(COUNTERS) has how many flows there are and the next new one.
 */
#include "flows.h"

enum {
	LAYOUT_NOTHING, /* draw a flow and make its key */
	LRU_FOUND,
	LRU_MISSING,
	LRU_INSERT,
	BUCKET_FOUND,
	BUCKET_MISSING,
	BUCKET_INSERT,
};

enum { WAYS = 4 };

/* Two in a cache line. */
struct entry {
	struct flow_key key; /* pad: slot and array entry */
	u32 last;
	u64 owner;
};

/* A flow is in one of two buckets. */
struct bucket {
	struct entry entry[WAYS];
};

struct control {
	u32 flows;
	u32 next;
	u32 mask; /* of buckets */
};

static __always_inline struct bucket *bucket_of(const struct control *control, u64 hash, u32 which)
{
	u64 key = array_key((which ? hash >> 42 : hash >> 20) & control->mask);

	return bpf_map_lookup_elem(MAP(SLOTS), &key);
}

static __always_inline u64 hash_of(const struct flow_key *key)
{
	u64 low = (u64)key->addr[2] << 32 | key->addr[3],
	    high = (u64)key->addr[0] << 32 | key->addr[1];
	u64 hash = (low ^ (u64)key->port << 40) * 0x9e3779b97f4a7c15;

	hash ^= high * 0xc2b2ae3d27d4eb4f;
	return hash * 0xff51afd7ed558ccd ^ hash >> 29;
}

static __always_inline bool is_same(const struct flow_key *a, const struct flow_key *b)
{
	return a->addr[3] == b->addr[3] && a->port == b->port && a->addr[2] == b->addr[2] &&
	       a->addr[1] == b->addr[1] && a->addr[0] == b->addr[0];
}

static __always_inline struct entry *entry_in(struct bucket *bucket, const struct flow_key *key)
{
	u32 i;

#pragma clang loop unroll(full)
	for (i = 0; i < WAYS; i++) {
		if (is_same(&bucket->entry[i].key, key))
			return &bucket->entry[i];
	}
	return NULL;
}

static __always_inline struct entry *entry_of(const struct control *control,
					      const struct flow_key *key)
{
	u64 hash = hash_of(key);
	struct bucket *bucket = bucket_of(control, hash, 0);
	struct entry *entry = bucket ? entry_in(bucket, key) : NULL;

	if (entry)
		return entry;
	bucket = bucket_of(control, hash, 1);
	return bucket ? entry_in(bucket, key) : NULL;
}

/* The free or oldest entry of a bucket. */
static __always_inline struct entry *oldest_of(struct bucket *bucket)
{
	struct entry *oldest = &bucket->entry[0];
	u32 i;

#pragma clang loop unroll(full)
	for (i = 1; i < WAYS; i++) {
		if (bucket->entry[i].last < oldest->last)
			oldest = &bucket->entry[i];
	}
	return oldest;
}

static __always_inline long insert(const struct control *control, const struct flow_key *key)
{
	u64 hash = hash_of(key);
	struct bucket *first = bucket_of(control, hash, 0), *second = bucket_of(control, hash, 1);
	struct entry *entry, *other;

	if (!first || !second)
		return -1;
	entry = oldest_of(first);
	other = oldest_of(second);
	if (other->last < entry->last)
		entry = other;
	entry->key = *key;
	entry->owner = 1;
	entry->last = bpf_jiffies64();
	return 0;
}

/* 1: what was to be found was found, or not, or is inserted. */
int layout(struct __sk_buff *skb)
{
	struct flow_key key = { .addr = { 0, 0, V4_MAPPED, 0 }, .port = 4433 };
	struct flow value = { .owner = 1, .last = bpf_jiffies64() };
	struct control *control;
	u64 zero = array_key(0);

	control = bpf_map_lookup_elem(MAP(COUNTERS), &zero);
	if (!control)
		return 0;
	if (PART == LRU_INSERT || PART == BUCKET_INSERT)
		key.addr[3] = control->next++;
	else
		key.addr[3] = (u64)bpf_get_prandom_u32() * control->flows >> 32;
	if (PART == LRU_MISSING || PART == BUCKET_MISSING)
		key.port = 4434;
	if (PART == LRU_FOUND)
		return bpf_map_lookup_elem(MAP(FLOW_TABLES), &key) != NULL;
	if (PART == LRU_MISSING)
		return bpf_map_lookup_elem(MAP(FLOW_TABLES), &key) == NULL;
	if (PART == LRU_INSERT)
		return !bpf_map_update_elem(MAP(FLOW_TABLES), &key, &value, BPF_ANY);
	if (PART == BUCKET_FOUND)
		return entry_of(control, &key) != NULL;
	if (PART == BUCKET_MISSING)
		return entry_of(control, &key) == NULL;
	if (PART == BUCKET_INSERT)
		return !insert(control, &key);
	return key.addr[3] < control->flows;
}
