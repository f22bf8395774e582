// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* Helpers of programs that headers of bpf/ call, for this machine; tests define those declared. */
#ifndef UDPGRM_TEST_HELPERS_H
#define UDPGRM_TEST_HELPERS_H

#include <stddef.h>
#include "types.h"
#include "abi.h"

enum { TEST_LINE_BITS = 14 };

static u64 bpf_pseudo_fd(u64 kind, u64 number)
{
	return number == CONST_LINE_BITS ? TEST_LINE_BITS : number;
}

static u64 bpf_jiffies64(void);
static void *bpf_map_lookup_elem(void *map, const void *key);
static long bpf_map_update_elem(void *map, const void *key, const void *value, u64 flags);

static u64 bpf_get_netns_cookie(void *ctx)
{
	return 4026531840;
}

static void *bpf_sk_storage_get(void *map, void *sk, void *value, u64 flags)
{
	return NULL;
}

#endif
