/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * dtls_cid: connection IDs carry the udpgrm cookie, two bytes, big-endian. They
 * are in DTLS 1.2 records of type tls12_cid, after type, version, epoch and
 * sequence number (RFC 9146, 4), and in the unified headers of DTLS 1.3 that have
 * the C bit, after the first byte (RFC 9147, 4).
 */
#include "dissectors/results.h"

enum {
	DTLS12_CID_TYPE = 25,
	DTLS12_CID = 11,
	DTLS13_CID = 1,
	DTLS13_MASK = 0xe0,
	DTLS13_HEADER = 0x20,
	DTLS13_HAS_CID = 0x10,
};

static __always_inline int dissect(struct steering *s)
{
	u32 first, at, last, cookie;

	if (payload_byte(s->md, 0, &first))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (first == DTLS12_CID_TYPE)
		at = DTLS12_CID;
	else if ((first & (DTLS13_MASK | DTLS13_HAS_CID)) == (DTLS13_HEADER | DTLS13_HAS_CID))
		at = DTLS13_CID;
	else
		return to_unseen(s);
	if (payload_byte(s->md, at + PARAMETER(cid_length) - 1, &last) ||
	    payload_half(s->md, at + PARAMETER(offset), &cookie))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	return to_named(s, cookie);
}
