/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright the udpgrm authors */
/* Results of named dissectors, with a packet counted as read. */
#ifndef UDPGRM_RESULTS_H
#define UDPGRM_RESULTS_H

#include "steering.h"

/* The packet names no socket of ours: a new flow of the first application. */
static __always_inline int to_unseen(struct steering *s)
{
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	s->counters->total[RX_FLOW_NEW_UNSEEN]++;
	return to_new(s, 0);
}

/* The packet carries a udpgrm cookie, perhaps a wrong one. */
static __always_inline int to_named(struct steering *s, u32 cookie)
{
	s->counters->total[RX_DISSECTED_OK_TOTAL]++;
	return to_cookie(s, cookie);
}

#endif
