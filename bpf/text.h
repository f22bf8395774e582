/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Text of a packet, 16 bytes at a time, in words whose lowest byte is the first. Without branches:
 * each would double what the verifier has to follow. A mark is the highest bit of a byte.
 */
#ifndef UDPGRM_TEXT_H
#define UDPGRM_TEXT_H

#include "kernel.h"

enum { PIECE = 16 };

/* Bytes of a packet; 0 beyond its end. */
struct piece {
	u64 word[2];
};

#define EACH(byte) (0x0101010101010101ULL * (byte))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FIRST_LOWEST(word) (word)
#else
#define FIRST_LOWEST(word) __builtin_bswap64(word)
#endif

/* A number that the compiler knows nothing of: it makes no branches of what follows from it. */
static __always_inline u64 hidden(u64 number)
{
	OPAQUE(number);
	return number;
}

/* 1 if a number is 0, else 0. */
static __always_inline u64 is_zero(u64 number)
{
	return hidden(number | -number) >> 63 ^ 1;
}

/*
 * Read a piece of a packet of one piece at least. Always as many bytes: a size that depends on what
 * was read has the verifier compare all that it depends on. At the end they are the last ones,
 * shifted.
 */
static __always_inline void read_piece(void *packet, u32 at, u32 end, struct piece *piece)
{
	u64 beyond = (u64)at + PIECE - end, bits, low, high;
	u64 within = hidden((s64)(beyond - PIECE) >> 63);

	beyond &= ~hidden((s64)beyond >> 63);
	bpf_skb_load_bytes(packet, at - beyond, piece, sizeof(*piece));
	low = FIRST_LOWEST(piece->word[0]);
	high = FIRST_LOWEST(piece->word[1]);
	bits = beyond & 8;
	low = (low & (bits >> 3) - 1) | (high & -(bits >> 3));
	high &= (bits >> 3) - 1;
	bits = 8 * (beyond & 7);
	piece->word[0] = (low >> bits | high << 1 << (63 - bits)) & within;
	piece->word[1] = high >> bits & within;
}

/* Position of the first marked byte of a word; 8: there is none. */
static __always_inline u64 first_marked(u64 marks)
{
	u64 below = hidden((marks & -marks) - 1);

	return (below >> 7 & EACH(1)) * EACH(1) >> 56;
}

/* The same of a piece; 16: there is none. */
static __always_inline u64 first_of(u64 low, u64 high)
{
	u64 first = first_marked(low);

	return first + (first_marked(high) & -(first >> 3));
}

/* Marks of the bytes that are no spaces, line ends or other controls. */
static __always_inline u64 marks_of_text(u64 word)
{
	return (((word | EACH(0x80)) - EACH(' ' + 1)) | word) & EACH(0x80);
}

/* Marks of the bytes of one value; beyond the first some may be wrong. */
static __always_inline u64 marks_of(u64 word, u8 byte)
{
	u64 same = word ^ EACH(byte);

	return (same - EACH(1)) & ~same & EACH(0x80);
}

/* The first bytes of a word, 8 at most. */
static __always_inline u64 first_bytes(u64 word, u64 count)
{
	/* in two steps: no machine shifts by 64 bits */
	return word & ~(~0ULL << 4 * count << 4 * count);
}

/* A piece up to its first space, zeros behind. Returns how many bytes are text. */
static __always_inline u64 cut_at_space(struct piece *piece)
{
	u64 low = first_marked(marks_of_text(piece->word[0]) ^ EACH(0x80));
	u64 high = first_marked(marks_of_text(piece->word[1]) ^ EACH(0x80)) & -(low >> 3);

	piece->word[0] = first_bytes(piece->word[0], low);
	piece->word[1] = first_bytes(piece->word[1], high);
	return low + high;
}

enum { SPACES = 4 * PIECE }; /* of which more in a row are not skipped */

/* The position of the first byte that is neither space nor line end; perhaps beyond the end. */
static __always_inline u32 skip_spaces(void *packet, u32 at, u32 end)
{
	struct piece piece;
	u64 i, skipped;

#pragma clang loop unroll(disable)
	for (i = 0; i < SPACES / PIECE; i++) {
		read_piece(packet, at, end, &piece);
		skipped = first_of(marks_of_text(piece.word[0]), marks_of_text(piece.word[1]));
		at += skipped;
		if (skipped < PIECE)
			break;
	}
	return at;
}

#endif
