/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * The key of a SIP message's flow: a hash of its Call-ID (RFC 3261, 20.8), which all messages of a
 * call repeat, in both directions. Registrations and publications are flows for one request each:
 * a user agent keeps their Call-ID for as long as it runs (10.2), and no drain would end.
 */
#ifndef UDPGRM_SIP_KEY_H
#define UDPGRM_SIP_KEY_H

#include "crypto/siphash.h"
#include "text.h"

enum {
	SIP_STEPS = 128,      /* each passes a line's end or 16 bytes */
	SIP_ID_PIECES = 16,   /* of a Call-ID, what is hashed */
	SIP_BEYOND = 1 << 16, /* any packet's end */
	SIP_CALL_ID = 7,      /* lengths of names */
	SIP_CSEQ = 4,
	SIP_COMPACT = 1,
};

/* Names in lower case, the first character lowest. */
#define SIP_NAME_CALL_ID 0x64692d6c6c6163ULL
#define SIP_NAME_CSEQ 0x71657363ULL
#define SIP_REGISTER 0x5245545349474552ULL
#define SIP_PUBLISH 0x4853494c425550ULL
#define SIP_BYE 0x455942ULL

/* A bit each: tab, space and colon. */
#define SIP_AFTER_NAME (1ULL << '\t' | 1ULL << ' ' | 1ULL << ':')

/* Where the values of a message's headers are searched for: behind the name. 0: there is none. */
struct sip_headers {
	u32 call_id;
	u32 cseq;
};

/* 1 if a line begins with this name (a piece's first word) and something that follows names. */
static __always_inline u64 is_name(u64 word, u64 name, u64 length)
{
	u64 lower = word & ~0ULL >> (64 - 8 * length), next = word >> 8 * length & 0xff;

	lower |= EACH(0x20) >> (64 - 8 * length);
	return is_zero(lower ^ name) & SIP_AFTER_NAME >> (next & 63) & is_zero(next >> 6);
}

/*
 * Search a message's head. Lines that begin with a space continue the last one (7.3.1), so no name
 * is there.
 */
static __always_inline void find_headers(void *packet, u32 at, u32 end, struct sip_headers *found)
{
	u64 is_line = 1, has_begun = 0, i, word, next, whole, compact, cseq, is_blank, is_done;
	u64 call_id_at = unknown_zero(end), cseq_at = unknown_zero(end);
	struct piece piece;

#pragma clang loop unroll(disable)
	for (i = 0; i < SIP_STEPS; i++) {
		if (at >= end)
			break;
		read_piece(packet, at, end, &piece);
		word = piece.word[0];
		whole = is_line & is_name(word, SIP_NAME_CALL_ID, SIP_CALL_ID);
		compact = is_line & is_name(word, 'i', SIP_COMPACT);
		cseq = is_line & is_name(word, SIP_NAME_CSEQ, SIP_CSEQ);
		call_id_at |= (at + SIP_COMPACT + whole * (SIP_CALL_ID - SIP_COMPACT)) &
			      -((whole | compact) & is_zero(call_id_at));
		cseq_at |= (at + SIP_CSEQ) & -(cseq & is_zero(cseq_at));
		/* line ends may come before the first line (7.5), then an empty line ends the head
		 */
		is_blank = is_zero((word & 0xff) ^ '\n') | is_zero((word & 0xff) ^ '\r');
		is_done = (is_line & is_blank & has_begun) |
			  ((is_zero(call_id_at) | is_zero(cseq_at)) ^ 1);
		has_begun |= is_line & (is_blank ^ 1);
		next = first_of(marks_of(piece.word[0], '\n'), marks_of(piece.word[1], '\n'));
		is_line = next >> 4 ^ 1;
		at += next + is_line + is_done * SIP_BEYOND;
	}
	found->call_id = call_id_at;
	found->cseq = cseq_at;
}

/* Where a header's value begins, behind its name, a colon and spaces; 0: it has none. */
static __always_inline u32 value_at(void *packet, u32 at, u32 end)
{
	struct piece piece;

	at = skip_spaces(packet, at, end);
	read_piece(packet, at, end, &piece);
	if ((piece.word[0] & 0xff) != ':')
		return 0;
	at = skip_spaces(packet, at + 1, end);
	/* at the start of a line: it is the next header's name */
	read_piece(packet, at - 1, end, &piece);
	return (piece.word[0] & 0xff) == '\n' ? 0 : at;
}

/* Read a message's CSeq: the number's text, and the method's if that is short. */
static __always_inline u64 read_cseq(void *packet, u32 at, u32 end, struct piece *number)
{
	struct piece method;

	at = value_at(packet, at, end);
	read_piece(packet, at, end, number);
	at = skip_spaces(packet, at + cut_at_space(number), end);
	read_piece(packet, at, end, &method);
	return cut_at_space(&method) > 8 ? 0 : method.word[0];
}

/*
 * The key of the message between two offsets of a packet; -1: it has no Call-ID. *ends says whether
 * it is a BYE, or its answer.
 */
static __always_inline int sip_key(void *packet, u32 at, u32 end, struct flow_key *key, u64 *ends)
{
	u64 method = 0, hash[2], words = unknown_zero(end), i;
	struct piece number = {}, piece;
	struct sip_headers headers;
	struct siphash h;

	if (end < at + PIECE)
		return -1;
	find_headers(packet, at, end, &headers);
	if (!headers.call_id)
		return -1;
	at = value_at(packet, headers.call_id, end);
	if (!at || at >= end)
		return -1;
	siphash_begin(&h, CONST(FLOW_HASH_KEY0), CONST(FLOW_HASH_KEY1));
#pragma clang loop unroll(disable)
	for (i = 0; i < SIP_ID_PIECES; i++) {
		u64 length;

		read_piece(packet, at, end, &piece);
		length = cut_at_space(&piece);
		siphash_word(&h, piece.word[0]);
		siphash_word(&h, piece.word[1]);
		words += 2;
		at += length;
		if (length < PIECE)
			break;
	}
	if (headers.cseq)
		method = read_cseq(packet, headers.cseq, end, &number);
	*ends = is_zero(method ^ SIP_BYE);
	method = -(is_zero(method ^ SIP_REGISTER) | is_zero(method ^ SIP_PUBLISH));
	siphash_word(&h, number.word[0] & method);
	siphash_word(&h, number.word[1] & method);
	siphash_end(&h, words + 2, hash);
	set_hash(key, hash, KEYED_BY_CALL_ID);
	return 0;
}

#endif
