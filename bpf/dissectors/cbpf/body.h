/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cbpf: a classic BPF filter, linked as eBPF instructions (udpgrm/dissectors/filter_code.py),
 * says what a packet is: the udpgrm cookie of its socket, a new flow of
 * application n, or just a new flow. Costs its instructions and, for a cookie,
 * one array lookup.
 */

enum { NEW_FLOW_OF_APP = 0x80000000 };
enum { FILTER_TOO_SHORT = -2 }; /* apart: a negative number makes an enum a signed one */

static __always_inline int dissect(struct steering *s)
{
	s64 found = CALL_LINKED(FILTER, s->md);
	u32 result = found;

	if (found == FILTER_TOO_SHORT)
		return pass_unread(s, RX_PACKET_TOO_SHORT_ERROR);
	if (found < 0)
		return pass_unread(s, RX_CBPF_PROG_ERROR);
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	if (result <= 0xffff)
		return to_cookie(s, result);
	s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	if (result - NEW_FLOW_OF_APP < s->group->max_apps)
		return to_new(s, result - NEW_FLOW_OF_APP);
	return to_new(s, 0);
}
