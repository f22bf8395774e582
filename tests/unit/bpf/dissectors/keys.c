// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * The keys that flows have by the content of their packets, for this machine: the headers are
 * included as they are; a packet is a piece of memory.
 */
#include <stdbool.h>
#include <stddef.h>
#include "memory_packet.h"

static u64 hash_key[2];

static u64 bpf_pseudo_fd(u64 kind, u64 number);

#include "unused.h"

#include "dissectors/radius/key.h"
#include "dissectors/sip/key.h"

static u64 bpf_pseudo_fd(u64 kind, u64 number)
{
	return hash_key[number == CONST_FLOW_HASH_KEY1];
}

static void receive(const u8 *data, u32 length)
{
	packet = data;
	packet_length = length;
}

/* What tests call: a payload begins at an offset of a packet. */

void test_set_hash_key(u64 key0, u64 key1)
{
	hash_key[0] = key0;
	hash_key[1] = key1;
}

void test_siphash(const u64 *words, u32 count, u64 *hash)
{
	struct siphash h;
	u32 i;

	siphash_begin(&h, hash_key[0], hash_key[1]);
	for (i = 0; i < count; i++)
		siphash_word(&h, words[i]);
	siphash_end(&h, count, hash);
}

void test_piece(const u8 *data, u32 length, u32 at, u32 end, struct piece *piece)
{
	receive(data, length);
	read_piece(NULL, at, end, piece);
}

int test_sip_key(const u8 *data, u32 at, u32 end, struct flow_key *key, u64 *ends)
{
	receive(data, end);
	return sip_key(NULL, at, end, key, ends);
}

int test_radius_key(const u8 *data, u32 at, u32 end, u32 code, struct flow_key *key)
{
	receive(data, end);
	return radius_key(NULL, at, end, code, key);
}
