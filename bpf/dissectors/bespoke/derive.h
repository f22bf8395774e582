/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * The client's Initial keys, from the connection ID that it chose: RFC 9001,
 * 5.2. HKDF (RFC 5869) over HMAC (RFC 2104) over SHA-256, as the list of
 * compressions that this comes to.
 */
#ifndef UDPGRM_BESPOKE_DERIVE_H
#define UDPGRM_BESPOKE_DERIVE_H

#include "dissectors/bespoke/scratch.h"

enum { SHA256_BLOCK = 64, MESSAGE_END = 0x80 };

/* dcid: its bytes, zero beyond them. */
static __always_inline void derive_keys(const struct quic_tables *tables, u32 *dcid, u32 length,
					u32 *schedule, u32 blocks[KEY_BLOCKS][SHA256_BLOCK_WORDS])
{
	u32 i;

	read_kernel(blocks, sizeof(tables->key_blocks), tables->key_blocks);
	((u8 *)dcid)[length & 31] = MESSAGE_END;
#pragma clang loop unroll(full)
	for (i = 0; i < 8; i++)
		blocks[BLOCK_DCID][i] = __builtin_bswap32(dcid[i]);
	/* the salt's block went before it */
	blocks[BLOCK_DCID][SHA256_BLOCK_WORDS - 1] = 8 * (SHA256_BLOCK + length);
#pragma clang loop unroll(disable)
	for (i = 0; i < KEY_STEPS; i++) {
		const struct key_step *step = &tables->step[i];

		sha256_block(&tables->crypto, blocks[step->state & (KEY_BLOCKS - 1)],
			     blocks[step->message & (KEY_BLOCKS - 1)], step->pad * 0x01010101,
			     schedule, blocks[step->result & (KEY_BLOCKS - 1)]);
	}
}

#endif
