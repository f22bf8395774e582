/* SPDX-License-Identifier: GPL-2.0-or-later */
/* noop: no packet belongs to a known flow. */

static __always_inline int dissect(struct steering *s)
{
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	return to_new(s, 0);
}
