// SPDX-License-Identifier: Apache-2.0
// Copyright the udpgrm authors
/* Runs what tests/kernel/registration/test_clients.py asks of each language. */
#include <arpa/inet.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "udpgrm.h"

enum { MOST_WORDS = 64, MOST_SOCKETS = 64 };

static int result_of(int failed)
{
	const char *kind = "other";

	if (!failed)
		return printf("ok\n");
	if (udpgrm_is_not_hooked(errno))
		kind = "not_hooked";
	else if (errno == ETIMEDOUT)
		kind = "timed_out";
	else if (errno == EEXIST)
		kind = "exists";
	else if (errno == EPERM)
		kind = "permission";
	else if (errno == EINVAL)
		kind = "invalid";
	return printf("error %s %d\n", kind, errno);
}

static uint32_t number(const char *word)
{
	return (uint32_t)strtoul(word, NULL, 10);
}

static int milliseconds(const char *word)
{
	return strcmp(word, "forever") ? atoi(word) : INT_MAX;
}

static int print_numbers(const uint32_t *numbers, size_t count)
{
	size_t i;

	printf("ok");
	for (i = 0; i < count; i++)
		printf(" %" PRIu32, numbers[i]);
	return printf("\n");
}

/* Read an IP and a port. */
static socklen_t read_address(const char *ip, const char *port, struct sockaddr_storage *address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;

	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		return sizeof(*v4);
	}
	inet_pton(AF_INET6, ip, &v6->sin6_addr);
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons((uint16_t)atoi(port));
	return sizeof(*v6);
}

/* A filter of one instruction: the result, whatever the packet. */
static struct udpgrm_dissector returning(uint32_t applications, uint32_t result)
{
	struct udpgrm_dissector dissector = udpgrm_flow(0);

	dissector.type = UDPGRM_CBPF;
	dissector.max_apps = applications;
	dissector.of.cbpf.count = 1;
	dissector.of.cbpf.filter[0].code = 0x06; /* BPF_RET | BPF_K */
	dissector.of.cbpf.filter[0].k = result;
	return dissector;
}

/* bind IP PORT COUNT flow SECONDS | noop | cbpf APPLICATIONS RESULT | named NAME PARAMETERS */
static int do_bind(char **words)
{
	struct udpgrm_dissector dissector = udpgrm_noop();
	struct sockaddr_storage address;
	socklen_t length = read_address(words[1], words[2], &address);
	size_t count = (size_t)atoi(words[3]), i;
	uint32_t numbers[MOST_SOCKETS];
	int sockets[MOST_SOCKETS];

	if (!strcmp(words[4], "flow") && words[5][strspn(words[5], "0123456789")]) {
		errno = EINVAL;
		return result_of(-1);
	}
	if (!strcmp(words[4], "flow"))
		dissector = udpgrm_flow(number(words[5]));
	else if (!strcmp(words[4], "cbpf"))
		dissector = returning(number(words[5]), number(words[6]));
	else if (!strcmp(words[4], "named") && udpgrm_named(&dissector, words[5], words[6]))
		return result_of(-1);
	if (udpgrm_bind((struct sockaddr *)&address, length, &dissector, sockets, count))
		return result_of(-1);
	for (i = 0; i < count; i++)
		numbers[i] = (uint32_t)sockets[i];
	return print_numbers(numbers, count);
}

/* plain IP PORT: a socket without SO_REUSEPORT */
static int do_plain(char **words)
{
	struct sockaddr_storage address;
	socklen_t length = read_address(words[1], words[2], &address);
	uint32_t fd = (uint32_t)socket(address.ss_family, SOCK_DGRAM, 0);

	if (bind((int)fd, (struct sockaddr *)&address, length))
		return result_of(-1);
	return print_numbers(&fd, 1);
}

/* enroll GENERATION MILLISECONDS SOCKET.., wait_registered MILLISECONDS SOCKET.. */
static int do_wait(char **words)
{
	int is_enroll = !strcmp(words[0], "enroll"), sockets[MOST_SOCKETS], failed;
	char **next = words + 2 + is_enroll;
	uint32_t indices[MOST_SOCKETS];
	size_t count = 0;

	while (*next)
		sockets[count++] = atoi(*next++);
	if (is_enroll)
		failed = udpgrm_enroll(sockets, count, number(words[1]), indices,
				       milliseconds(words[2]));
	else
		failed = udpgrm_wait_registered(sockets, count, indices, milliseconds(words[1]));
	return failed ? result_of(-1) : print_numbers(indices, count);
}

static int do_socket_generation(int fd)
{
	struct udpgrm_socket_generation value;

	if (udpgrm_socket_generation(fd, &value))
		return result_of(-1);
	printf("ok %" PRIu32 " ", value.generation);
	if (value.index == UDPGRM_NONE)
		return printf("none %u\n", value.cookie);
	return printf("%" PRIu32 " %u\n", value.index, value.cookie);
}

static int do_working_generation(int fd)
{
	uint32_t generation;

	if (udpgrm_working_generation(fd, &generation))
		return result_of(-1);
	return generation == UDPGRM_NONE ? printf("ok none\n") : print_numbers(&generation, 1);
}

static int do_call(char **words)
{
	struct sockaddr_storage peer;
	int found;

	if (!strcmp(words[0], "probe")) {
		found = udpgrm_probe();
		return found < 0 ? result_of(-1) : printf("ok %s\n", found ? "yes" : "no");
	}
	if (!strcmp(words[0], "bind"))
		return do_bind(words);
	if (!strcmp(words[0], "plain"))
		return do_plain(words);
	if (!strcmp(words[0], "enroll") || !strcmp(words[0], "wait_registered"))
		return do_wait(words);
	if (!strcmp(words[0], "promote"))
		return result_of(udpgrm_promote(atoi(words[1]), number(words[2])));
	if (!strcmp(words[0], "working_generation"))
		return do_working_generation(atoi(words[1]));
	if (!strcmp(words[0], "socket_generation"))
		return do_socket_generation(atoi(words[1]));
	if (!strcmp(words[0], "assure_flow")) {
		read_address(words[2], words[3], &peer);
		return result_of(udpgrm_assure_flow(atoi(words[1]), (struct sockaddr *)&peer));
	}
	if (!strcmp(words[0], "close"))
		return result_of(close(atoi(words[1])));
	return printf("error unknown 0\n");
}

int main(void)
{
	char line[1024], *words[MOST_WORDS + 1];

	while (fgets(line, sizeof(line), stdin)) {
		size_t count = 0;
		char *word = strtok(line, " \n");

		while (word && count < MOST_WORDS) {
			words[count++] = word;
			word = strtok(NULL, " \n");
		}
		words[count] = NULL;
		if (count)
			do_call(words);
		fflush(stdout);
	}
	return 0;
}
