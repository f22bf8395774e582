/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Validate a group's dissector. */
#ifndef UDPGRM_VALID_H
#define UDPGRM_VALID_H

#include "abi.h"

/*
 * 1 when a < b, for numbers below 2^31. Without a branch, which the compiler
 * would make of a comparison: each doubles what the verifier has to follow.
 */
static __always_inline u32 is_less(u32 a, u32 b)
{
	u32 difference = a - b;

	OPAQUE(difference);
	return difference >> 31;
}

/* Every name ends, and its application is one of the group's. */
static __always_inline bool is_valid_bespoke(const struct dissector *d)
{
	u32 apps = d->max_apps ?: 1, wrong = 0, i;

	if (d->digest != DIGEST_QUIC_SNI || d->max_apps > MAX_APPS || d->sni_count > MAX_SNI)
		return false;
#pragma clang loop unroll(full)
	for (i = 0; i < MAX_SNI; i++) {
		u32 last = (u8)d->sni[i].hostname[HOSTNAME_BYTES - 1];

		wrong |= is_less(i, d->sni_count) &
			 (is_less(0, last) | is_less(apps - 1, d->sni[i].app));
	}
	return !wrong;
}

static __always_inline bool is_valid(const struct dissector *d)
{
	u32 type = d->type & ~DISSECTOR_VERBOSE;

	if (type == DISSECTOR_BESPOKE)
		return is_valid_bespoke(d);
	if (d->digest)
		return false;
	if (type == DISSECTOR_NAMED)
		return d->max_apps <= MAX_APPS && d->name[0];
	if (type == DISSECTOR_CBPF)
		return d->max_apps <= MAX_APPS && d->filter_len && d->filter_len <= MAX_FILTER;
	if (type != DISSECTOR_FLOW && type != DISSECTOR_NOOP)
		return false;
	return !d->max_apps && !d->filter_len;
}

#endif
