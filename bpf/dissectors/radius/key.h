/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * The key of a RADIUS conversation's next packet: a hash of the State (RFC 2865, 5.24) that the
 * server puts into an Access-Challenge and the client repeats in its next Access-Request.
 */
#ifndef UDPGRM_RADIUS_KEY_H
#define UDPGRM_RADIUS_KEY_H

#include "crypto/siphash.h"
#include "text.h"

enum {
	RADIUS_ACCESS_REQUEST = 1,
	RADIUS_ACCESS_CHALLENGE = 11,
	RADIUS_HEADER = 20,
	RADIUS_STATE = 24,
	RADIUS_TYPE_AND_LENGTH = 2,
	RADIUS_ATTRIBUTES = 96, /* of which one is the State */
	RADIUS_STATE_PIECES = 16,
};

/* The key of a packet between two offsets; -1: it is of another code, or has no State. */
static __always_inline int radius_key(void *packet, u32 at, u32 end, u32 code, struct flow_key *key)
{
	u64 words = unknown_zero(end), hash[2], i;
	u8 head[4], attribute[RADIUS_TYPE_AND_LENGTH];
	struct piece piece;
	struct siphash h;
	u32 length;

	if (bpf_skb_load_bytes(packet, at, head, sizeof(head)) || head[0] != code)
		return -1;
	length = head[2] << 8 | head[3];
	/* what is behind is padding (3) */
	if (end > at + length)
		end = at + length;
	at += RADIUS_HEADER;
#pragma clang loop unroll(disable)
	for (i = 0; i < RADIUS_ATTRIBUTES; i++) {
		if (at + RADIUS_TYPE_AND_LENGTH > end)
			return -1;
		if (bpf_skb_load_bytes(packet, at, attribute, sizeof(attribute)))
			return -1;
		length = attribute[1];
		if (length < RADIUS_TYPE_AND_LENGTH)
			return -1;
		if (attribute[0] == RADIUS_STATE)
			break;
		at += length;
	}
	if (i == RADIUS_ATTRIBUTES || length <= RADIUS_TYPE_AND_LENGTH || at + length > end)
		return -1;
	end = at + length;
	at += RADIUS_TYPE_AND_LENGTH;
	siphash_begin(&h, CONST(FLOW_HASH_KEY0), CONST(FLOW_HASH_KEY1));
	siphash_word(&h, length);
#pragma clang loop unroll(disable)
	for (i = 0; i < RADIUS_STATE_PIECES; i++) {
		if (at >= end)
			break;
		read_piece(packet, at, end, &piece);
		siphash_word(&h, piece.word[0]);
		siphash_word(&h, piece.word[1]);
		words += 2;
		at += PIECE;
	}
	siphash_end(&h, words + 1, hash);
	set_hash(key, hash, KEYED_BY_STATE);
	return 0;
}

#endif
