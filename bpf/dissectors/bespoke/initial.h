/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* An Initial packet without its protection: RFC 9000, 17.2.2, RFC 9001, 5.3 and 5.4. */
#ifndef UDPGRM_BESPOKE_INITIAL_H
#define UDPGRM_BESPOKE_INITIAL_H

#include "dissectors/bespoke/connection.h"
#include "dissectors/bespoke/derive.h"

enum {
	SAMPLE_AT = 4, /* after the start of the packet number */
	SAMPLE_BYTES = 16,
	TAG_BYTES = 16,
	RESERVED_BITS = 0x0c,
	FIRST_COUNTER = 2, /* GCM keeps 1 for the tag */
	DECRYPT_BLOCKS = QUIC_BYTES / 16,
};

/* A variable-length integer at *offset, and past it: RFC 9000, 16. */
static __always_inline int read_varint(struct sk_reuseport_md *md, u32 *offset, u64 *value)
{
	u64 head;
	u32 bits;

	/* eight bytes are there, however short the number: the packet ends in a tag */
	if (*offset > MAX_OFFSET ||
	    bpf_skb_load_bytes(md, UDP_HEADER + *offset, &head, sizeof(head)))
		return -1;
	head = __builtin_bswap64(head);
	bits = 8U << (head >> 62);
	*value = (head & ~0ULL >> 2) >> (64 - bits);
	*offset += bits / 8;
	return 0;
}

/* Where the packet number starts, and how many bytes are left of the packet from there. */
static __always_inline int find_number(struct sk_reuseport_md *md, u32 scid_at, u32 *number_at,
				       u32 *length)
{
	u32 offset = scid_at, size = md->len - UDP_HEADER, scid_length;
	u64 value;

	if (payload_byte(md, offset, &scid_length) || scid_length > DCID_LONGEST)
		return -1;
	offset += 1 + scid_length;
	if (read_varint(md, &offset, &value) || value > size)
		return -1;
	offset += value; /* the token */
	if (read_varint(md, &offset, &value))
		return -1;
	if (value > size || offset + value > size || value < SAMPLE_AT + SAMPLE_BYTES)
		return -1;
	*number_at = offset;
	*length = value;
	return 0;
}

/*
 * Leaves the payload's position, key and nonce in the scratch. -1: this is no
 * Initial packet under the keys of its connection ID.
 */
static __always_inline int open_packet(struct sk_reuseport_md *md, const struct quic_tables *tables,
				       struct quic_scratch *s)
{
	u32 dcid_length, first, number, number_at, number_bytes, length, i;
	u32 *mask = s->sample;

	__builtin_memset(s->dcid, 0, sizeof(s->dcid));
	if (payload_byte(md, LONG_DCID_AT - 1, &dcid_length) || dcid_length < DCID_SHORTEST)
		return -1;
	OPAQUE(dcid_length);
	if (dcid_length > DCID_LONGEST ||
	    bpf_skb_load_bytes(md, UDP_HEADER + LONG_DCID_AT, s->dcid, dcid_length) ||
	    find_number(md, LONG_DCID_AT + dcid_length, &number_at, &length))
		return -1;
	derive_keys(tables, s->dcid, dcid_length, s->schedule, s->key_blocks);

	if (payload_byte(md, 0, &first) ||
	    bpf_skb_load_bytes(md, UDP_HEADER + number_at, &s->number, SAMPLE_AT + SAMPLE_BYTES))
		return -1;
#pragma clang loop unroll(full)
	for (i = 0; i < AES_WORDS; i++)
		mask[i] = __builtin_bswap32(mask[i]);
	aes128_expand(&tables->crypto, s->key_blocks[BLOCK_HP], &s->key);
	aes128_encrypt(&tables->crypto, &s->key, mask, mask);
	first ^= mask[0] >> 24 & 0x0f;
	if (first & RESERVED_BITS)
		return -1;
	number_bytes = (first & 3) + 1;
	number = __builtin_bswap32(s->number) ^ (mask[0] << 8 | mask[1] >> 24);
	number >>= 32 - 8 * number_bytes;
	if (length <= number_bytes + TAG_BYTES)
		return -1;

	aes128_expand(&tables->crypto, s->key_blocks[BLOCK_KEY], &s->key);
	s->counter[0] = s->key_blocks[BLOCK_IV][0];
	s->counter[1] = s->key_blocks[BLOCK_IV][1];
	s->counter[2] = s->key_blocks[BLOCK_IV][2] ^ number;
	s->start = number_at + number_bytes;
	s->length = length - number_bytes - TAG_BYTES;
	s->there = s->length < QUIC_BYTES ? s->length : QUIC_BYTES;
	return 0;
}

/*
 * The payload in clear, as far as there is room for it. Its tag is not
 * verified: every sender can make a tag under these keys.
 */
static __always_inline int decrypt(struct sk_reuseport_md *md, const struct quic_tables *tables,
				   struct quic_scratch *s)
{
	u32 *words = (u32 *)s->payload, stream[AES_WORDS];
	/* 1 .. QUIC_BYTES, also for the verifier of kernel 6.1, which learns nothing from != */
	u32 length = quic_index(s->there - 1) + 1, i, j;

	if (length != s->there || s->start > MAX_OFFSET ||
	    bpf_skb_load_bytes(md, UDP_HEADER + s->start, s->payload, length))
		return -1;
#pragma clang loop unroll(disable)
	for (i = 0; i < DECRYPT_BLOCKS; i++) {
		if (16 * i >= s->there)
			break;
		s->counter[3] = FIRST_COUNTER + i;
		aes128_encrypt(&tables->crypto, &s->key, s->counter, stream);
#pragma clang loop unroll(full)
		for (j = 0; j < AES_WORDS; j++)
			words[4 * i + j] ^= __builtin_bswap32(stream[j]);
	}
	return 0;
}

#endif
