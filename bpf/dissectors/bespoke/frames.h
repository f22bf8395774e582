/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* The CRYPTO stream in an Initial packet's frames: RFC 9000, 12.4 and 19. */
#ifndef UDPGRM_BESPOKE_FRAMES_H
#define UDPGRM_BESPOKE_FRAMES_H

#include "dissectors/bespoke/scratch.h"

enum {
	FRAME_PADDING = 0x00,
	FRAME_PING = 0x01,
	FRAME_ACK = 0x02,
	FRAME_ACK_ECN = 0x03,
	FRAME_CRYPTO = 0x06,
	FRAME_CLOSE = 0x1c,
	ECN_COUNTS = 3,
	FRAME_STEPS = 160, /* words of PADDING and frames that one program reads */
};

/* A variable-length integer of the payload, which has room for one after its end. */
static __always_inline u64 next_varint(struct quic_scratch *s)
{
	u64 head = __builtin_bswap64(*(u64 *)(s->payload + quic_index(s->position)));
	u32 bits = 8U << (head >> 62);

	s->position += bits / 8;
	return (head & ~0ULL >> 2) >> (64 - bits);
}

/* The next `there` bytes, data of a CRYPTO frame, to their position in the stream. */
static __always_inline void keep_crypto(const struct quic_tables *tables, struct quic_scratch *s,
					u64 offset, u64 there)
{
	u32 from = quic_index(s->position), to = quic_index(offset);

	if (offset >= QUIC_BYTES)
		return;
	OPAQUE(there);
	if (there >= QUIC_BYTES)
		return;
	read_kernel(s->hello + to, there, s->payload + from);
	read_kernel(s->is_present + to, there, tables->ones);
}

/*
 * One frame, a word of PADDING or one number of an ACK frame; -1: this belongs
 * into no Initial packet. One that passes the end leaves position there.
 */
static __always_inline int read_frame(const struct quic_tables *tables, struct quic_scratch *s)
{
	u64 type, offset, bytes;
	u32 left;

	if (s->skip) {
		s->skip--;
		next_varint(s);
		return 0;
	}
	if (!*(u64 *)(s->payload + quic_index(s->position))) {
		s->position += 8;
		if (s->position > s->there)
			s->position = s->there;
		return 0;
	}
	type = next_varint(s);
	if (s->position > s->there)
		return 0;
	if (type == FRAME_CRYPTO) {
		offset = next_varint(s);
		bytes = next_varint(s);
		left = s->there - s->position;
		if (left > QUIC_BYTES) /* below 0 */
			return 0;
		keep_crypto(tables, s, offset, bytes < left ? bytes : left);
		/* past the end, should that be so */
		s->position += bytes < left ? bytes : left + (bytes > left);
		return 0;
	}
	if (type == FRAME_ACK || type == FRAME_ACK_ECN) {
		next_varint(s); /* largest acknowledged */
		next_varint(s); /* delay */
		bytes = next_varint(s);
		if (bytes > QUIC_BYTES)
			bytes = QUIC_BYTES;
		/* the first range, then a gap and a length for each other */
		s->skip = 1 + 2 * (u32)bytes + (type == FRAME_ACK_ECN ? ECN_COUNTS : 0);
		return 0;
	}
	if (type == FRAME_CLOSE) {
		s->position = s->there;
		return 0;
	}
	return type > FRAME_PING ? -1 : 0;
}

static __always_inline void begin_frames(const struct quic_tables *tables, struct quic_scratch *s)
{
	s->position = 0;
	s->skip = 0;
	read_kernel(s->is_present, QUIC_BYTES, tables->zeroes);
}

/*
 * Read some more frames, until position reaches the end. -1: the decrypted bytes are
 * no frames, so the packet was not encrypted under these keys.
 */
static __always_inline int read_frames(const struct quic_tables *tables, struct quic_scratch *s)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < FRAME_STEPS; i++) {
		if (s->position >= s->there)
			break;
		if (read_frame(tables, s))
			return -1;
	}
	if (s->position < s->there || s->there < s->length)
		return 0;
	/* the packet's end, not that of what there was room for: frames end there too */
	return s->position > s->there || s->skip ? -1 : 0;
}

#endif
