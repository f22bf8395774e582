/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * quic: connection IDs that the server chooses carry the udpgrm cookie, two
 * bytes, big-endian. A long header whose ID has another length than those has
 * one that the client chose.
 */
#include "dissectors/quic_header.h"
#include "dissectors/results.h"

static __always_inline int dissect(struct steering *s)
{
	u32 at, length, last, cookie;

	if (quic_id(s->md, &at, &length))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (length != QUIC_LENGTH_UNKNOWN && length != PARAMETER(cid_length))
		return to_unseen(s);
	if (payload_byte(s->md, at + PARAMETER(cid_length) - 1, &last) ||
	    payload_half(s->md, at + PARAMETER(offset), &cookie))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	return to_named(s, cookie);
}
