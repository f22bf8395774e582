/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * quic_lb: connection IDs of draft-ietf-quic-load-balancers-21. The last two
 * bytes of the server ID are the udpgrm cookie, big-endian. Server ID and nonce
 * are in the clear or, 16 bytes together, one block of AES-128.
 */
#include "crypto/aes128_decrypt.h"
#include "dissectors/quic_header.h"
#include "dissectors/results.h"

enum { ROTATION_SHIFT = 5, SELF_LENGTH = 0x1f };

#define KEY_WORD(i) PARAMETER_WORD(key, 1 + (i))

static __always_inline u32 block_byte(const struct aes_block *block, u64 position)
{
	u64 low = block->word[0], high = block->word[1];

	/* as an index, clang would OR it into the address, which the verifier forbids */
	asm volatile("" : "+r"(low), "+r"(high));
	return (position & 8 ? high : low) >> 8 * (position & 7) & 0xff;
}

static __always_inline int encrypted_cookie(struct sk_reuseport_md *md, u32 at, u32 *cookie)
{
	u64 position = PARAMETER(server_id_length) - 2;
	struct aes_block block;

	if (at > MAX_OFFSET || bpf_skb_load_bytes(md, UDP_HEADER + at, &block, sizeof(block)))
		return -1;
	AES128_DECRYPT(&block, KEY_WORD);
	*cookie = block_byte(&block, position) << 8 | block_byte(&block, position + 1);
	return 0;
}

static __always_inline int plain_cookie(struct sk_reuseport_md *md, u32 at, u32 *cookie)
{
	u32 last;

	if (payload_byte(md, at + PARAMETER(server_id_length) + PARAMETER(nonce_length) - 1, &last))
		return -1;
	return payload_half(md, at + PARAMETER(server_id_length) - 2, cookie);
}

static __always_inline int dissect(struct steering *s)
{
	u32 size = 1 + PARAMETER(server_id_length) + PARAMETER(nonce_length);
	u32 at, length, first, self, cookie;
	int error;

	if (quic_id(s->md, &at, &length))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (length < size)
		return to_unseen(s);
	if (payload_byte(s->md, at, &first))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (first >> ROTATION_SHIFT != PARAMETER(config_rotation))
		return to_unseen(s);
	self = 1 + (first & SELF_LENGTH);
	if (PARAMETER(self_encoded_length) &&
	    (self < size || (length != QUIC_LENGTH_UNKNOWN && self != length)))
		return to_unseen(s);
	if (PARAMETER(key))
		error = encrypted_cookie(s->md, at + 1, &cookie);
	else
		error = plain_cookie(s->md, at + 1, &cookie);
	if (error)
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	return to_named(s, cookie);
}
