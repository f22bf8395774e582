/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * SipHash-1-3 of 128 bits (Aumasson, Bernstein), of whole words of 8 bytes, little-endian. A sender
 * that does not know the key cannot make two texts that have one hash.
 */
#ifndef UDPGRM_SIPHASH_H
#define UDPGRM_SIPHASH_H

#include "kernel.h"

struct siphash {
	u64 v0, v1, v2, v3;
};

#define ROTATED(word, bits) ((word) << (bits) | (word) >> (64 - (bits)))

static __always_inline void siphash_round(struct siphash *h)
{
	h->v0 += h->v1;
	h->v2 += h->v3;
	h->v1 = ROTATED(h->v1, 13) ^ h->v0;
	h->v3 = ROTATED(h->v3, 16) ^ h->v2;
	h->v0 = ROTATED(h->v0, 32);
	h->v2 += h->v1;
	h->v0 += h->v3;
	h->v1 = ROTATED(h->v1, 17) ^ h->v2;
	h->v3 = ROTATED(h->v3, 21) ^ h->v0;
	h->v2 = ROTATED(h->v2, 32);
}

static __always_inline void siphash_begin(struct siphash *h, u64 key0, u64 key1)
{
	h->v0 = key0 ^ 0x736f6d6570736575ULL;
	h->v1 = key1 ^ 0x646f72616e646f6dULL ^ 0xee;
	h->v2 = key0 ^ 0x6c7967656e657261ULL;
	h->v3 = key1 ^ 0x7465646279746573ULL;
}

static __always_inline void siphash_word(struct siphash *h, u64 word)
{
	h->v3 ^= word;
	siphash_round(h);
	h->v0 ^= word;
}

static __always_inline u64 siphash_half(struct siphash *h)
{
	siphash_round(h);
	siphash_round(h);
	siphash_round(h);
	return h->v0 ^ h->v1 ^ h->v2 ^ h->v3;
}

/* The hash of as many words. */
static __always_inline void siphash_end(struct siphash *h, u64 words, u64 hash[2])
{
	siphash_word(h, words * 8 << 56);
	h->v2 ^= 0xee;
	hash[0] = siphash_half(h);
	h->v1 ^= 0xdd;
	hash[1] = siphash_half(h);
}

/* Put a hash into a flow's key, in the place of a peer. */
static __always_inline void set_hash(struct flow_key *key, const u64 hash[2], u16 keyed_by)
{
	key->addr[0] = hash[0];
	key->addr[1] = hash[0] >> 32;
	key->addr[2] = hash[1];
	key->addr[3] = hash[1] >> 32;
	key->port = 0;
	key->keyed_by = keyed_by;
}

#endif
