// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* The types that bcc gives programs, for this machine. */
#ifndef UDPGRM_TEST_TYPES_H
#define UDPGRM_TEST_TYPES_H

#include <linux/bpf.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

#endif
