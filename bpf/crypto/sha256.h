/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* The compression function of SHA-256: FIPS 180-4, 6.2.2. */
#ifndef UDPGRM_CRYPTO_SHA256_H
#define UDPGRM_CRYPTO_SHA256_H

#include "crypto/tables.h"

enum { SHA256_WORDS = 8, SHA256_BLOCK_WORDS = 16, SHA256_ROUNDS = 64 };

/* BPF here has 64-bit registers only: twice the word, so that a shift is a rotation. */
static __always_inline u64 sha256_twice(u64 word)
{
	return word << 32 | word;
}

static __always_inline u64 sha256_mix(u64 word, u32 first, u32 second, u32 third)
{
	u64 twice = sha256_twice(word);

	return (u32)(twice >> first ^ twice >> second ^ twice >> third);
}

static __always_inline u64 sha256_spread(u64 word, u32 first, u32 second, u32 shift)
{
	u64 twice = sha256_twice(word);

	return (u32)(twice >> first ^ twice >> second ^ word >> shift);
}

/*
 * result = compression of a block onto a state, as big-endian words; pad is
 * added to every word of the block (HMAC's ipad and opad). w is room for the
 * message schedule: a program's stack has none. result may be state or block.
 */
static __always_inline void sha256_block(const struct crypto_tables *tables, const u32 *state,
					 const u32 *block, u32 pad, u32 *w, u32 *result)
{
	u64 a = state[0], b = state[1], c = state[2], d = state[3];
	u64 e = state[4], f = state[5], g = state[6], h = state[7];
	u32 round, i;

#pragma clang loop unroll(full)
	for (i = 0; i < SHA256_BLOCK_WORDS; i++)
		w[i] = block[i] ^ pad;
#pragma clang loop unroll(disable)
	for (round = 0; round < SHA256_ROUNDS; round += SHA256_BLOCK_WORDS) {
#pragma clang loop unroll(full)
		for (i = 0; i < SHA256_BLOCK_WORDS; i++) {
			u64 choice = g ^ (e & (f ^ g));
			u64 majority = (a & b) | (c & (a | b));
			u64 more = h + choice + tables->sha256[round + i] + w[i] +
				   sha256_mix(e, 6, 11, 25);

			h = g, g = f, f = e, e = (u32)(d + more);
			d = c, c = b, b = a;
			a = (u32)(more + majority + sha256_mix(b, 2, 13, 22));
			/* else the compiler computes so far ahead that the stack is too small */
			asm volatile("" : "+r"(a), "+r"(e)::"memory");
		}
#pragma clang loop unroll(full)
		for (i = 0; i < SHA256_BLOCK_WORDS; i++) {
			w[i] += w[(i + 9) & 15] + sha256_spread(w[(i + 1) & 15], 7, 18, 3) +
				sha256_spread(w[(i + 14) & 15], 17, 19, 10);
		}
	}
	result[0] = state[0] + a, result[1] = state[1] + b;
	result[2] = state[2] + c, result[3] = state[3] + d;
	result[4] = state[4] + e, result[5] = state[5] + f;
	result[6] = state[6] + g, result[7] = state[7] + h;
}

#endif
