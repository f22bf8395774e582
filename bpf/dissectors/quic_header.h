/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * Find a QUIC packet's destination connection ID, in every version (RFC
 * 8999): after the first byte of a short header, which has no length; after
 * first byte, version and length of a long one. The fixed bit is not looked
 * at, so packets that grease it (RFC 9287) are read as well.
 */
#ifndef UDPGRM_QUIC_HEADER_H
#define UDPGRM_QUIC_HEADER_H

#include "packet.h"

enum { QUIC_LONG = 0x80, QUIC_SHORT_ID = 1, QUIC_LONG_LENGTH = 5, QUIC_LONG_ID = 6 };

/* *length of an ID whose packet does not have it */
enum { QUIC_LENGTH_UNKNOWN = 0xffff };

static __always_inline int quic_id(struct sk_reuseport_md *md, u32 *at, u32 *length)
{
	u32 first;

	if (payload_byte(md, 0, &first))
		return -1;
	if (first & QUIC_LONG) {
		*at = QUIC_LONG_ID;
		return payload_byte(md, QUIC_LONG_LENGTH, length);
	}
	*at = QUIC_SHORT_ID;
	*length = QUIC_LENGTH_UNKNOWN;
	return 0;
}

#endif
