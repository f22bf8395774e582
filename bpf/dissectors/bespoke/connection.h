/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/*
 * The parts of a QUIC header that stay readable: RFC 8999, RFC 9000, 17. And
 * where a packet goes by its connection ID alone:
 *	DCID[0] == 1: DCID[1..2] is the udpgrm cookie, big-endian; where that is
 *	0, DCID[4] is the application of a new flow
 *	anything else: a new flow of application 0
 */
#ifndef UDPGRM_BESPOKE_CONNECTION_H
#define UDPGRM_BESPOKE_CONNECTION_H

#include "steering.h"

enum {
	SHORTEST_UDP = 32, /* with its header */
	QUIC_VERSION_1 = 1,
	LONG_HEADER = 0x80,
	LONG_TYPE = 0x30, /* 0: Initial */
	SHORT_DCID_AT = 1,
	LONG_DCID_AT = 6, /* after its length */
	DCID_SHORTEST = 8,
	DCID_LONGEST = 20,
	DCID_OURS = 1,
};

struct connection {
	bool is_initial;
	bool is_ours; /* its DCID begins with DCID_OURS */
	u32 cookie;
	u32 app;
};

/* Bytes offset .. offset + 7 of the UDP payload as a big-endian number. */
static __always_inline int eight_bytes(struct sk_reuseport_md *md, u32 offset, u64 *value)
{
	u64 *at = md->data + UDP_HEADER + offset;

	if ((void *)(at + 1) <= md->data_end) {
		*value = __builtin_bswap64(*at);
		return 0;
	}
	if (bpf_skb_load_bytes(md, UDP_HEADER + offset, value, sizeof(*value)))
		return -1;
	*value = __builtin_bswap64(*value);
	return 0;
}

/* -1: the packet is too short to be QUIC. */
static __always_inline int read_connection(struct sk_reuseport_md *md, struct connection *found)
{
	u64 head, dcid; /* five bytes are enough of it */

	if (md->len < SHORTEST_UDP || eight_bytes(md, 0, &head))
		return -1;
	if (head >> 56 & LONG_HEADER) {
		u32 length;

		if (eight_bytes(md, LONG_DCID_AT - 1, &dcid))
			return -1;
		length = dcid >> 56;
		if (length < DCID_SHORTEST || length > DCID_LONGEST)
			return 0;
		dcid <<= 8;
		found->is_initial =
			!(head >> 56 & LONG_TYPE) && (u32)(head >> 24) == QUIC_VERSION_1;
	} else {
		dcid = head << 8;
	}
	found->is_ours = dcid >> 56 == DCID_OURS;
	found->cookie = dcid >> 40 & 0xffff;
	found->app = dcid >> 24 & 0xff;
	return 0;
}

static __always_inline int to_new_of(struct steering *s, u32 app)
{
	s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	return to_new(s, app < s->group->max_apps ? app : 0);
}

static __always_inline int to_connection(struct steering *s, const struct connection *found)
{
	if (found->is_ours && found->cookie)
		return to_cookie(s, found->cookie);
	return to_new_of(s, found->is_ours ? found->app : 0);
}

#endif
