/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cbpf: a classic BPF filter, compiled, says what a packet is: the udpgrm
 * cookie of its socket, a new flow of application n, or just a new flow.
 * Costs its instructions and, for a cookie, one array lookup.
 */

enum { NEW_FLOW_OF_APP = 0x80000000 };

static __always_inline int dissect(struct steering *s)
{
	struct counters *counters = s->counters;
	u32 result = 0;

	if (run_filter(s->md, &result))
		return pass_unread(s, RX_CBPF_PROG_ERROR);
	counters->total[RX_DISSECTED_OK_TOTAL]++;
	if (result <= 0xffff)
		return to_cookie(s, result);
	counters->total[RX_FLOW_NEW_UNSEEN]++;
	if (result - NEW_FLOW_OF_APP < s->group->max_apps)
		return to_new(s, result - NEW_FLOW_OF_APP);
	return to_new(s, 0);
}
