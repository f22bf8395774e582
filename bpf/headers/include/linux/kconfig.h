/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for kernel headers, which hosts rarely have: bcc includes this
 * first. bcc brings its own copy of linux/bpf.h.
 */
#ifndef UDPGRM_KCONFIG_H
#define UDPGRM_KCONFIG_H

#define __LINUX_BPF_H__
#define CONFIG_BPF_SYSCALL 1

typedef signed char s8;
typedef unsigned char u8;
typedef short s16;
typedef unsigned short u16;
typedef int s32;
typedef unsigned int u32;
typedef long long s64;
typedef unsigned long long u64;
typedef unsigned long size_t;
typedef unsigned long uintptr_t;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

#endif
