// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * The programs for QUIC's Initial packets for this machine, as they are. Maps
 * are variables here, helpers copy, and a tail call jumps back.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include "types.h"

static u64 bpf_pseudo_fd(u64 kind, u64 number)
{
	return number;
}

static void *bpf_map_lookup_elem(void *map, const void *key);
static void read_memory(void *to, u32 size, const void *from);
static void call_next(void *ctx, void *programs, u32 stage);

/* What choosing a socket needs; not called here. */
#define bpf_jiffies64() 0ULL
#define bpf_map_update_elem(map, key, value, flags) 0
#define bpf_get_netns_cookie(ctx) 0ULL
#define bpf_get_current_uid_gid() 0ULL
#define bpf_sk_storage_get(map, sk, value, flags) NULL
#define bpf_map_pop_elem(map, value) -1
#define bpf_sk_select_reuseport(md, map, key, flags) -1
#define bpf_skb_load_bytes_relative(md, offset, to, length, start) -1

#define read_kernel read_by_helper
#define tail_call tail_call_by_helper
#include "kernel.h"
#undef read_kernel
#undef tail_call
#define read_kernel read_memory
#define tail_call call_next

static long bpf_skb_load_bytes(const struct sk_reuseport_md *md, u32 offset, void *to, u32 length)
{
	if (offset > md->len || length > md->len - offset)
		return -14; /* EFAULT */
	memcpy(to, md->data + offset, length);
	return 0;
}

#include "dissectors/bespoke/keys.c"
#include "dissectors/bespoke/decrypt.c"
#include "dissectors/bespoke/name.c"

static struct quic_tables tables;
static struct quic_scratch scratch;
static struct dissector dissector;
static jmp_buf called;

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	if (map == MAP(QUIC_SCRATCH))
		return &scratch;
	if (map == MAP(QUIC_TABLES))
		return &tables;
	return map == MAP(DISSECTORS) ? &dissector : NULL;
}

static void read_memory(void *to, u32 size, const void *from)
{
	/* only scratch is written, and not beyond */
	if (to < (void *)&scratch || to + size > (void *)(&scratch + 1))
		__builtin_trap();
	memcpy(to, from, size);
}

static void call_next(void *ctx, void *programs, u32 stage)
{
	longjmp(called, stage + 1);
}

/* What tests call. */

void test_prepare(const void *contents, const void *names)
{
	memcpy(&tables, contents, sizeof(tables));
	memcpy(&dissector, names, sizeof(dissector));
	memset(&scratch, 0xa5, sizeof(scratch));
}

void test_sha256_block(const u32 *state, const u32 *block, u32 *result)
{
	u32 schedule[SHA256_BLOCK_WORDS];

	sha256_block(&tables.crypto, state, block, 0, schedule, result);
}

void test_aes128(const u32 *key, const u32 *block, u32 *round_keys, u32 *result)
{
	struct aes128 expanded;

	aes128_expand(&tables.crypto, key, &expanded);
	memcpy(round_keys, expanded.round_key, sizeof(expanded.round_key));
	aes128_encrypt(&tables.crypto, &expanded, block, result);
}

void test_keys(const u8 *dcid, u32 length, u32 *key, u32 *iv, u32 *hp)
{
	memset(scratch.dcid, 0, sizeof(scratch.dcid));
	memcpy(scratch.dcid, dcid, length);
	derive_keys(&tables, scratch.dcid, length, scratch.schedule, scratch.key_blocks);
	memcpy(key, scratch.key_blocks[BLOCK_KEY], 16);
	memcpy(iv, scratch.key_blocks[BLOCK_IV], 12);
	memcpy(hp, scratch.key_blocks[BLOCK_HP], 16);
}

/* -1: too short. data has UDP's header first; `linear` bytes of it can be read directly. */
int test_connection(const void *data, u32 length, u32 linear, struct connection *found)
{
	struct sk_reuseport_md md = { .len = length };

	md.data = (void *)data;
	md.data_end = md.data + linear;
	memset(found, 0, sizeof(*found));
	return read_connection(&md, found);
}

/* An Initial packet: the application, -1 when it is garbled; its payload and stream. */
int test_initial(const void *data, u32 length, u8 *payload, u32 *there, u8 *hello, u8 *is_present,
		 u32 *calls)
{
	struct sk_reuseport_md md = { .len = length };

	md.data = (void *)data;
	md.data_end = md.data + length;
	*calls = 0;
	scratch.there = 0;
	switch (setjmp(called)) {
	case 0:
	case 1 + QUIC_KEYS:
		++*calls;
		quic_keys(&md);
		__builtin_trap();
	case 1 + QUIC_DECRYPT:
		++*calls;
		quic_decrypt(&md);
		__builtin_trap();
	case 1 + QUIC_NAME:
		++*calls;
		quic_name(&md);
		__builtin_trap();
	}
	*there = scratch.there;
	memcpy(payload, scratch.payload, QUIC_BYTES);
	memcpy(hello, scratch.hello, QUIC_BYTES);
	memcpy(is_present, scratch.is_present, QUIC_BYTES);
	return scratch.is_garbled ? -1 : scratch.app;
}
