// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/*
 * Threads that note a flow each in one empty line, all at once, round after round. Prints how often
 * each answer came; fails if one is not that of a fresh flow.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include "helpers.h"

#include "lines.h"

enum { THREADS = 2, ROUNDS = 50000, GROUP_ID = 5, TIMEOUT = 1 << 20 };

static struct line line;
static struct group group = { .timeout_jiffies = TIMEOUT };
static u64 answers[THREADS][LINE_KNOWS_NONE + 1];
static u64 arrived;

/* Milliseconds, like jiffies: a thread is not preempted for LINE_RECENT of them. */
static u64 bpf_jiffies64(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	return TIMEOUT + 10 + now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *bpf_map_lookup_elem(void *map, const void *key)
{
	return &line;
}

static long bpf_map_update_elem(void *map, const void *key, const void *value, u64 flags)
{
	__builtin_trap();
}

/* Wait for the other threads, and leave at the same instant as they do. */
static void meet(u64 times)
{
	u32 spins = 0;

	__sync_fetch_and_add(&arrived, 1);
	while (READ_ONCE(arrived) < times * THREADS) {
		if (++spins % 1000 == 0)
			sched_yield();
	}
}

static void *run(void *argument)
{
	u64 number = (u64)argument, i, wrong = 0;
	struct flow_key key = { .addr = { 0, 0, V4_MAPPED, number }, .port = 53 };
	u32 array_entry, slot, answer;

	for (i = 0; i < ROUNDS; i++) {
		meet(3 * i + 1);
		if (!number)
			__builtin_memset(&line, 0, sizeof(line));
		meet(3 * i + 2);
		note_flow(GROUP_ID, &key, number, number, bpf_jiffies64());
		meet(3 * i + 3);
		answer = ask_line(&group, GROUP_ID, &key, &array_entry, &slot);
		answers[number][answer]++;
		wrong += answer == LINE_KNOWS_NONE;
		wrong += answer == LINE_HAS_IT && (array_entry != number || slot != number);
	}
	return (void *)wrong;
}

int main(void)
{
	pthread_t threads[THREADS];
	u64 wrong = 0, i, answer;
	void *result;

	for (i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, run, (void *)i);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &result);
		wrong += (u64)result;
	}
	for (answer = 0; answer <= LINE_KNOWS_NONE; answer++) {
		u64 sum = 0;

		for (i = 0; i < THREADS; i++)
			sum += answers[i][answer];
		printf("%llu ", (unsigned long long)sum);
	}
	printf("%u\n", line.writers);
	return wrong != 0;
}
