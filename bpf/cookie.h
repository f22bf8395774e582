/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 16-bit udpgrm cookie: index << 8 | checksum << 5 | generation slot. */
#ifndef UDPGRM_COOKIE_H
#define UDPGRM_COOKIE_H

#include "kernel.h"

static __always_inline u32 make_cookie(u32 slot, u32 index)
{
	u32 check;

	index &= 0xff;
	slot &= 0xff;
	check = 0xd ^ (index >> 4) ^ (index & 0xf) ^ (slot >> 4) ^ (slot & 0xf);
	check = (check & 7) ^ (check >> 3 & 1);
	return index << 8 | check << 5 | (slot & (GENERATION_SLOTS - 1));
}

#endif
