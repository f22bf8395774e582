// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * The functions of bpf/*.h for this machine: the headers are included as they
 * are, and the helpers that they call work on arrays instead of maps.
 */
#include <stdbool.h>
#include "helpers.h"

/* What hooks call that are not tested here. */
u64 bpf_get_current_task(void);
u64 bpf_get_current_uid_gid(void);
long bpf_get_ns_current_pid_tgid(u64 dev, u64 ino, struct bpf_pidns_info *ns, u32 size);
long bpf_setsockopt(void *ctx, int level, int name, void *value, int size);
long bpf_getsockopt(void *ctx, int level, int name, void *value, int size);
long bpf_ringbuf_output(void *ringbuf, void *data, u64 size, u64 flags);

static u64 drawn;

/* The same numbers after each test_draw_from(): splitmix64. */
static u32 bpf_get_prandom_u32(void)
{
	u64 number = drawn += 0x9e3779b97f4a7c15;

	number = (number ^ number >> 30) * 0xbf58476d1ce4e5b9;
	number = (number ^ number >> 27) * 0x94d049bb133111eb;
	return number >> 32;
}

#include "cookie.h"
#include "flows.h"
#include "options.h"
#include "unlist.h"

enum { TABLES = 40, ENTRIES = 8, TEST_LINES = 1, GROUP_ID = 5 };

struct table {
	u32 used;
	struct flow_key key[ENTRIES];
	struct flow flow[ENTRIES];
};

static struct table tables[TABLES];
static struct line lines[TEST_LINES];
static u64 now;
static u32 lookups;

static u64 bpf_jiffies64(void)
{
	return now;
}

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	struct table *table = map;
	u32 number, i;

	if (map == MAP(FLOW_TABLES)) {
		number = *(const u32 *)key;
		return number && number < TABLES ? &tables[number] : NULL;
	}
	if (map == MAP(LINES))
		return &lines[*(const u32 *)key % TEST_LINES];
	if (table < tables || table >= tables + TABLES)
		__builtin_trap();
	lookups++;
	for (i = 0; i < table->used; i++) {
		if (!__builtin_memcmp(&table->key[i], key, sizeof(struct flow_key)))
			return &table->flow[i];
	}
	return NULL;
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, u64 flags)
{
	struct flow *flow = bpf_map_lookup_elem(map, key);
	struct table *table = map;

	if (!flow) {
		if (table->used == ENTRIES)
			return -7; /* E2BIG */
		table->key[table->used] = *(const struct flow_key *)key;
		flow = &table->flow[table->used++];
	}
	*flow = *(const struct flow *)value;
	return 0;
}

/* What tests call. */

u32 test_make_cookie(u32 slot, u32 index)
{
	return make_cookie(slot, index);
}

u32 test_slot_of(const struct group *group, u32 app, u32 generation)
{
	return slot_of(group, app, generation);
}

u32 test_lowest_bit(u32 word)
{
	return lowest_bit(word);
}

u32 test_reversed(u32 word)
{
	return reversed(word);
}

bool test_has_flow_table(const struct group *group)
{
	return has_flow_table(group);
}

bool test_reads_payload(const struct group *group)
{
	return reads_payload(group);
}

void test_group_key(struct group_key *key, u32 family, u16 port, const u32 *addr,
		    const struct socket_request *request)
{
	struct bpf_sock sk = { .family = family, .src_port = port, .bound_dev_if = 7 };

	if (family == AF_INET)
		sk.src_ip4 = addr[0];
	else
		__builtin_memcpy(sk.src_ip6, addr, sizeof(sk.src_ip6));
	group_key_of(NULL, &sk, request, key);
}

/* Word i of an answer of `size` bytes asked for with optlen; false: there is none. */
bool test_word(const void *value, u32 size, s32 optlen, u32 i, u32 *word)
{
	struct bpf_sockopt ctx = { .optlen = optlen };
	u32 *found;

	ctx.optval = (void *)value;
	ctx.optval_end = (void *)value + size;
	found = word_of(&ctx, i);
	if (found)
		*word = *found;
	return found;
}

/* How much counts of a value that is set with optlen. */
s32 test_set_length(s32 optlen)
{
	struct bpf_sockopt ctx = { .optlen = optlen };

	return set_length(&ctx);
}

void test_set_clock(u64 jiffies)
{
	now = jiffies;
}

void test_clear(u64 jiffies)
{
	__builtin_memset(tables, 0, sizeof(tables));
	__builtin_memset(lines, 0, sizeof(lines));
	now = jiffies;
}

bool test_put(u32 table, const struct flow_key *key, const struct flow *flow)
{
	return !bpf_map_update_elem(&tables[table], key, flow, BPF_ANY);
}

bool test_get(u32 table, const struct flow_key *key, struct flow *flow)
{
	struct flow *found = bpf_map_lookup_elem(&tables[table], key);

	if (found)
		*flow = *found;
	return found;
}

/* Returns how many tables were looked into; *owner is 0 when nothing was found. */
u32 test_find(struct group *group, u32 first, struct flow_key *key, u64 *owner, u32 *slot,
	      bool *stale)
{
	struct flow *found;

	lookups = 0;
	found = find_flow(group, first, key, now, slot, stale);
	*owner = found ? found->owner : 0;
	return lookups;
}

u32 test_refresh(struct group *group, u32 slot, struct flow_key *key, u64 owner, u16 array_entry,
		 bool *stale)
{
	return refresh_flow(group, GROUP_ID, slot, key, owner, array_entry, stale);
}

u64 test_line_hash(struct flow_key *key)
{
	return line_hash(GROUP_ID, key);
}

u32 test_ask_line(struct group *group, struct flow_key *key, u32 *array_entry, u32 *slot)
{
	return ask_line(group, GROUP_ID, key, array_entry, slot);
}

void test_draw_from(u64 seed)
{
	drawn = seed;
}

void test_unlist(struct slot *slot, u32 array_entry)
{
	unlist(slot, array_entry);
}
