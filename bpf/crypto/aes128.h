/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * AES-128, encryption only: FIPS 197. Keys and blocks are big-endian words;
 * in 64-bit registers, because BPF here has no shorter ones.
 * Table lookups take a time that depends on their index; the keys that
 * QUIC's Initial packets are under are public (RFC 9001, 5.2).
 */
#ifndef UDPGRM_CRYPTO_AES128_H
#define UDPGRM_CRYPTO_AES128_H

#include "crypto/tables.h"

enum { AES_WORDS = 4, AES_ROUNDS = 10 };

struct aes128 {
	u32 round_key[AES_WORDS * (AES_ROUNDS + 1)];
};

static __always_inline u64 aes_substitute(const struct crypto_tables *tables, u64 byte)
{
	return tables->aes[byte & 0xff][0] >> 8 & 0xff;
}

/* SubBytes of a column whose rows come from up to four others. */
static __always_inline u64 aes_substitute_rows(const struct crypto_tables *tables, u64 a, u64 b,
					       u64 c, u64 d)
{
	return aes_substitute(tables, a >> 24) << 24 | aes_substitute(tables, b >> 16) << 16 |
	       aes_substitute(tables, c >> 8) << 8 | aes_substitute(tables, d);
}

static __always_inline u64 aes_mix_rows(const struct crypto_tables *tables, u64 a, u64 b, u64 c,
					u64 d)
{
	return tables->aes[a >> 24 & 0xff][0] ^ tables->aes[b >> 16 & 0xff][1] ^
	       tables->aes[c >> 8 & 0xff][2] ^ tables->aes[d & 0xff][3];
}

static __always_inline void aes128_expand(const struct crypto_tables *tables, const u32 *key,
					  struct aes128 *expanded)
{
	u32 *words = expanded->round_key;
	u32 i, rcon = 1;

#pragma clang loop unroll(full)
	for (i = 0; i < AES_WORDS; i++)
		words[i] = key[i];
#pragma clang loop unroll(disable)
	for (i = AES_WORDS; i < AES_WORDS * (AES_ROUNDS + 1); i += AES_WORDS) {
		u32 last = words[i - 1];
		u32 turned = last << 8 | last >> 24;

		words[i] = words[i - 4] ^ rcon << 24 ^
			   aes_substitute_rows(tables, turned, turned, turned, turned);
		words[i + 1] = words[i - 3] ^ words[i];
		words[i + 2] = words[i - 2] ^ words[i + 1];
		words[i + 3] = words[i - 1] ^ words[i + 2];
		rcon = (rcon << 1 ^ (rcon >> 7) * 0x11b) & 0xff;
	}
}

static __always_inline void aes128_encrypt(const struct crypto_tables *tables,
					   const struct aes128 *expanded, const u32 *in, u32 *out)
{
	const u32 *key = expanded->round_key;
	u64 a = in[0] ^ key[0], b = in[1] ^ key[1], c = in[2] ^ key[2], d = in[3] ^ key[3];
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 1; i < AES_ROUNDS; i++) {
		u64 p, q, r, s;

		key += AES_WORDS;
		p = aes_mix_rows(tables, a, b, c, d) ^ key[0];
		q = aes_mix_rows(tables, b, c, d, a) ^ key[1];
		r = aes_mix_rows(tables, c, d, a, b) ^ key[2];
		s = aes_mix_rows(tables, d, a, b, c) ^ key[3];
		a = p, b = q, c = r, d = s;
	}
	out[0] = aes_substitute_rows(tables, a, b, c, d) ^ key[4];
	out[1] = aes_substitute_rows(tables, b, c, d, a) ^ key[5];
	out[2] = aes_substitute_rows(tables, c, d, a, b) ^ key[6];
	out[3] = aes_substitute_rows(tables, d, a, b, c) ^ key[7];
}

#endif
