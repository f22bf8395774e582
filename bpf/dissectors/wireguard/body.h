/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * wireguard: every message but a handshake's first names its receiver by an
 * index that the receiver chose (WireGuard whitepaper, 5.4): 16 of its bits are
 * the udpgrm cookie.
 */
#include "dissectors/results.h"

enum {
	WIREGUARD_INITIATION = 1,
	WIREGUARD_RESPONSE = 2,
	WIREGUARD_TRANSPORT = 4,
	WIREGUARD_RECEIVER = 4,
	WIREGUARD_RESPONSE_RECEIVER = 8,
};

static __always_inline int dissect(struct steering *s)
{
	u32 type, index, at = WIREGUARD_RECEIVER;

	if (payload_byte(s->md, 0, &type))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (type <= WIREGUARD_INITIATION || type > WIREGUARD_TRANSPORT)
		return to_unseen(s);
	if (type == WIREGUARD_RESPONSE)
		at = WIREGUARD_RESPONSE_RECEIVER;
	if (payload_word(s->md, at, &index))
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	/* little-endian on the wire */
	index = __builtin_bswap32(index);
	return to_named(s, index >> PARAMETER(shift) & 0xffff);
}
