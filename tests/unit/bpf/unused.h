// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* Helpers that the dissectors' headers name, and that no test calls. */
#ifndef UDPGRM_TEST_UNUSED_H
#define UDPGRM_TEST_UNUSED_H

#include "types.h"

#define UNUSED(type, name, ...)       \
	static type name(__VA_ARGS__) \
	{                             \
		__builtin_trap();     \
	}
UNUSED(u64, bpf_jiffies64, void)
UNUSED(u64, bpf_get_netns_cookie, void *ctx)
UNUSED(u64, bpf_get_current_uid_gid, void)
UNUSED(void *, bpf_map_lookup_elem, void *map, const void *key)
UNUSED(long, bpf_map_update_elem, void *map, const void *key, const void *value, u64 flags)
UNUSED(long, bpf_map_delete_elem, void *map, const void *key)
UNUSED(long, bpf_map_pop_elem, void *map, void *value)
UNUSED(long, bpf_map_push_elem, void *map, const void *value, u64 flags)
UNUSED(void *, bpf_sk_storage_get, void *map, void *sk, void *value, u64 flags)
UNUSED(long, bpf_sk_select_reuseport, void *ctx, void *map, void *key, u64 flags)
UNUSED(long, bpf_skb_load_bytes_relative, void *ctx, u32 offset, void *to, u32 length, u32 start)

#endif
