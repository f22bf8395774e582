/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The value that a call sets: read once, compared part by part. */
#ifndef UDPGRM_VALUE_H
#define UDPGRM_VALUE_H

#include "options.h"

enum { PART_BYTES = 32 }; /* of a value: the stack has no room for a dissector */

/* A part of the value being set; the first has all of any option's but a dissector's. */
union part {
	u32 words[PART_BYTES / 4];
	u64 longs[PART_BYTES / 8];
};

static __always_inline void read_first(struct bpf_sockopt *ctx, union part *first)
{
	read_value(ctx, set_length(ctx), 0, first->longs, sizeof(*first));
}

/* Whole parts of a dissector; what is left of it is the last, shorter one. */
enum {
	WHOLE_PARTS = sizeof(struct dissector) / PART_BYTES * PART_BYTES,
	LAST_PART = sizeof(struct dissector) - WHOLE_PARTS,
};

/* The value being set. */
static __always_inline void read_dissector(struct bpf_sockopt *ctx, struct dissector *to)
{
	s64 length = set_length(ctx), offset;

#pragma clang loop unroll(disable)
	for (offset = 0; offset < WHOLE_PARTS; offset += PART_BYTES)
		read_value(ctx, length, offset, (void *)to + offset, PART_BYTES);
	read_value(ctx, length, WHOLE_PARTS, (void *)to + WHOLE_PARTS, LAST_PART);
}

/* The bits of a part of the value being set that a dissector has otherwise, but those ignored. */
static __always_inline u64 difference_of(struct bpf_sockopt *ctx, s64 length, s64 offset, s64 size,
					 union part *part, const struct dissector *from,
					 u64 ignored)
{
	const u64 *stored = (const void *)from + offset;
	u64 difference;
	s32 i;

	read_value(ctx, length, offset, part->longs, size);
	difference = (part->longs[0] ^ stored[0]) & ~ignored;
#pragma clang loop unroll(full)
	for (i = 1; i < size / 8; i++)
		difference |= part->longs[i] ^ stored[i];
	return difference;
}

/* Whether the value being set differs from a dissector in more than the verbose flag. */
static __always_inline bool differs(struct bpf_sockopt *ctx, union part *part,
				    const struct dissector *from)
{
	u64 difference = 0, ignored = DISSECTOR_VERBOSE; /* of the first word */
	s64 length = set_length(ctx), offset;

#pragma clang loop unroll(disable)
	for (offset = 0; offset < WHOLE_PARTS; offset += PART_BYTES) {
		difference |= difference_of(ctx, length, offset, PART_BYTES, part, from, ignored);
		ignored = 0;
	}
	return difference | difference_of(ctx, length, offset, LAST_PART, part, from, 0);
}

#endif
