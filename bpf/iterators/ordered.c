// SPDX-License-Identifier: GPL-2.0-or-later
/* Copyright the udpgrm authors */
#include "iterators/sockets.h"

/* The index of a socket in the array of its kernel group (struct sock_reuseport). */
static __always_inline u32 index_in(u64 kernel_group, const void *sk)
{
	u64 own = 0, member = 0;
	u16 count = 0;
	u32 i;

	/* the verifier compares the pointer itself with nothing */
	read_kernel(&own, sizeof(own), &sk);
	read_kernel(&count, sizeof(count), (void *)(kernel_group + CONST(REUSEPORT_COUNT_OFFSET)));
#pragma clang loop unroll(disable)
	for (i = 0; i < SLOT_SOCKETS; i++) {
		OPAQUE(i);
		if (i >= count)
			break;
		read_kernel(&member, sizeof(member),
			    (void *)(kernel_group + CONST(REUSEPORT_SOCKETS_OFFSET) +
				     i * sizeof(member)));
		if (member == own)
			break;
	}
	return i;
}

/*
 * Emits the index by which the kernel's hash selects each socket that shares its address and has a
 * cookie. Costs about 10 ns per UDP socket, and for each that shares its address as much for every
 * socket before it.
 */
int list_order(struct socket_iterator *ctx)
{
	/* read once: Linux 6.1 knows of each reading whether it was compared with NULL */
	struct bpf_sock *sk = ctx->sk;
	struct iterator_meta *meta = ctx->meta;
	struct ordered record = {};
	u64 kernel_group = 0;

	if (!sk)
		return 0;
	read_member(sk, CONST(SK_REUSEPORT_OFFSET), &kernel_group, sizeof(kernel_group));
	read_member(sk, CONST(SK_COOKIE_OFFSET), &record.cookie, sizeof(record.cookie));
	if (!kernel_group || !record.cookie)
		return 0;
	record.index = index_in(kernel_group, sk);
	emit(meta, &record, sizeof(record));
	return 0;
}
