/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* The server name in a ClientHello: RFC 8446, 4.1.2, RFC 6066, 3. */
#ifndef UDPGRM_BESPOKE_HELLO_H
#define UDPGRM_BESPOKE_HELLO_H

#include "dissectors/bespoke/scratch.h"

enum {
	CLIENT_HELLO = 1,
	SESSION_ID_AT = 38, /* after type, length, version and random */
	EXTENSION_SERVER_NAME = 0,
	NAME_HOST = 0,
	MAX_EXTENSIONS = 64,
};

struct host_name {
	u32 at;
	u32 length;
};

static __always_inline int hello_byte(const struct quic_scratch *s, u32 at, u32 *value)
{
	u32 index = quic_index(at);

	if (at >= QUIC_BYTES || !s->is_present[index])
		return -1;
	*value = s->hello[index];
	return 0;
}

static __always_inline int hello_half(const struct quic_scratch *s, u32 at, u32 *value)
{
	u32 index = quic_index(at);

	if (at >= QUIC_BYTES - 1 || !s->is_present[index] || !s->is_present[index + 1])
		return -1;
	*value = s->hello[index] << 8 | s->hello[index + 1];
	return 0;
}

/* Where the extensions are; what lies before them need not have come. */
static __always_inline int find_extensions(const struct quic_scratch *s, u32 *at, u32 *end)
{
	u32 value, position = SESSION_ID_AT;

	if (hello_byte(s, 0, &value) || value != CLIENT_HELLO || hello_byte(s, position, &value))
		return -1;
	position += 1 + value;
	if (hello_half(s, position, &value)) /* cipher suites */
		return -1;
	position += 2 + value;
	if (hello_byte(s, position, &value)) /* compression methods */
		return -1;
	position += 1 + value;
	if (hello_half(s, position, &value))
		return -1;
	*at = position + 2;
	*end = *at + value;
	return 0;
}

/* The position of the name in the stream; -1: there is none, or it has not come. */
static __always_inline int find_name(struct quic_scratch *s, struct host_name *name)
{
	u32 position, end, type, length, kind, i;

	if (find_extensions(s, &position, &end))
		return -1;
	s->position = position;
#pragma clang loop unroll(disable)
	for (i = 0; i < MAX_EXTENSIONS; i++) {
		u32 at = s->position;

		if (at >= end || hello_half(s, at, &type) || hello_half(s, at + 2, &length))
			return -1;
		if (type == EXTENSION_SERVER_NAME) {
			/* behind the length of the list, its first name */
			if (hello_byte(s, at + 6, &kind) || kind != NAME_HOST ||
			    hello_half(s, at + 7, &name->length))
				return -1;
			name->at = at + 9;
			return 0;
		}
		s->position += 4 + length;
	}
	return -1;
}

/*
 * The application of a name that the group's table has, byte for byte; -1: it
 * has not. All entries are compared at once and without branches.
 */
static __always_inline int find_app(const struct quic_scratch *s, const struct host_name *name,
				    const struct dissector *dissector)
{
	u32 candidates, i, entry;
	int app = -1;

	if (!name->length || name->length >= HOSTNAME_BYTES || dissector->sni_count > MAX_SNI)
		return -1;
	candidates = (1U << dissector->sni_count) - 1;
#pragma clang loop unroll(disable)
	for (i = 0; i < HOSTNAME_BYTES; i++) {
		u32 byte = 0;

		if (i > name->length)
			break;
		/* a NUL is the end of an entry, never a part of a name */
		if (i < name->length && (hello_byte(s, name->at + i, &byte) || !byte))
			return -1;
#pragma clang loop unroll(full)
		for (entry = 0; entry < MAX_SNI; entry++) {
			u32 other = (u8)dissector->sni[entry].hostname[i] ^ byte;

			candidates &= ~((other + 0xff) >> 8 << entry);
		}
	}
#pragma clang loop unroll(full)
	for (entry = MAX_SNI; entry--;) {
		if (candidates & 1 << entry)
			app = dissector->sni[entry].app;
	}
	return app;
}

#endif
