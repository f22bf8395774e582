/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright the udpgrm authors */
/*
 * The library for servers in C and C++ that take part in graceful restarts; nothing to link.
 *
 *     udpgrm_bind((struct sockaddr *)&address, sizeof(address), NULL, sockets, 2);
 *     udpgrm_enroll(sockets, 2, generation, NULL, 5000);
 *     ...  serve; when ready for new flows:
 *     udpgrm_promote(sockets[0], generation);
 *
 * Nothing here needs privileges, only hooks on the process's cgroup. Functions return 0, or -1 with
 * errno set; udpgrm_is_not_hooked(errno) says whether the reason is that there are no hooks.
 *
 * C99 with POSIX and BSD names (the default of compilers, or -D_DEFAULT_SOURCE), or C++11.
 */
#ifndef UDPGRM_CLIENT_H
#define UDPGRM_CLIENT_H

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Socket options, level IPPROTO_UDP. */
enum {
	UDP_GRM_WORKING_GEN = 200,
	UDP_GRM_SOCKET_GEN = 201,
	UDP_GRM_DISSECTOR = 202,
	UDP_GRM_FLOW_ASSURE = 203,
	UDP_GRM_SOCKET_APP = 204,
};

/* Types of dissectors. */
enum {
	UDPGRM_FLOW = 0,
	UDPGRM_CBPF = 1,
	UDPGRM_BESPOKE = 3,
	UDPGRM_NOOP = 4,
	UDPGRM_NAMED = 16, /* a dissector of udpgrm's library or of the operator */
	UDPGRM_VERBOSE = 0x8000,
};

/* No generation, or no index. */
#define UDPGRM_NONE UINT32_MAX

struct udpgrm_instruction {
	uint16_t code;
	uint8_t jt;
	uint8_t jf;
	uint32_t k;
};

struct udpgrm_server_name {
	uint8_t app;
	uint8_t reserved;
	char hostname[62]; /* NUL-terminated */
};

/* Value of UDP_GRM_DISSECTOR. */
struct udpgrm_dissector {
	uint32_t type;
	uint32_t flow_timeout_s; /* FLOW; 0: 125 */
	uint32_t max_apps;	 /* CBPF and BESPOKE; 0: one */
	uint32_t digest;	 /* BESPOKE; 0xdead: QUIC by server name */
	char label[100];	 /* names the group to tubular */
	union {
		struct {
			uint32_t count;
			struct udpgrm_instruction filter[64];
		} cbpf;
		struct {
			uint32_t count;
			struct udpgrm_server_name sni[8];
		} bespoke;
		struct {
			char name[32];
			char parameters[484]; /* JSON */
		} named;
	} of;
};

/* Value of UDP_GRM_SOCKET_GEN when read. */
struct udpgrm_socket_generation {
	uint32_t generation;
	uint32_t index;	  /* UDPGRM_NONE: not registered yet */
	uint16_t cookie;  /* udpgrm cookie, for connection IDs */
	uint16_t pending; /* 1: moves to this generation; index and cookie are not its own yet */
};

/*
 * Return whether an errno means that there are no hooks, or the socket came before them. The EBADF
 * of a closed descriptor is no other.
 */
static inline bool udpgrm_is_not_hooked(int error)
{
	return error == ENOPROTOOPT || error == EBADF || error == EBADFD;
}

/* Store the working generation of a socket's group; UDPGRM_NONE while there is no group. */
static inline int udpgrm_working_generation(int socket, uint32_t *generation)
{
	socklen_t length = sizeof(*generation);

	return getsockopt(socket, IPPROTO_UDP, UDP_GRM_WORKING_GEN, generation, &length);
}

/* Return 1 if this process's cgroup has udpgrm's hooks, which a daemon installs, 0 if not. */
static inline int udpgrm_probe(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result, error;
	uint32_t generation;

	if (fd < 0)
		return -1;
	result = udpgrm_working_generation(fd, &generation);
	error = errno;
	close(fd);
	errno = error;
	return !result ? 1 : udpgrm_is_not_hooked(error) ? 0 : -1;
}

/* Return the FLOW dissector; a timeout of 0 means 125 s. */
static inline struct udpgrm_dissector udpgrm_flow(uint32_t flow_timeout_s)
{
	struct udpgrm_dissector dissector;

	memset(&dissector, 0, sizeof(dissector));
	dissector.flow_timeout_s = flow_timeout_s;
	return dissector;
}

/* Return the NOOP dissector. */
static inline struct udpgrm_dissector udpgrm_noop(void)
{
	struct udpgrm_dissector dissector = udpgrm_flow(0);

	dissector.type = UDPGRM_NOOP;
	return dissector;
}

/*
 * Store the dissector of a name, such as "quic" with "{\"cid_length\": 8}". All sockets of a group
 * need the same text. EINVAL: too long, or no name.
 */
static inline int udpgrm_named(struct udpgrm_dissector *dissector, const char *name,
			       const char *parameters)
{
	*dissector = udpgrm_flow(0);
	dissector->type = UDPGRM_NAMED;
	if (!*name || strlen(name) >= sizeof(dissector->of.named.name) ||
	    strlen(parameters) >= sizeof(dissector->of.named.parameters)) {
		errno = EINVAL;
		return -1;
	}
	strcpy(dissector->of.named.name, name);
	strcpy(dissector->of.named.parameters, parameters);
	return 0;
}

/* Set the dissector of a socket's group, once. EPERM: the group has another one. */
static inline int udpgrm_set_dissector(int socket, const struct udpgrm_dissector *dissector)
{
	return setsockopt(socket, IPPROTO_UDP, UDP_GRM_DISSECTOR, dissector, sizeof(*dissector));
}

/*
 * Make `count` UDP sockets of one reuseport group; dissector NULL: FLOW. On an error none is left
 * open. To bind to a device, make the sockets yourself: SO_REUSEPORT, SO_BINDTODEVICE, bind(2),
 * then udpgrm_set_dissector().
 */
static inline int udpgrm_bind(const struct sockaddr *address, socklen_t length,
			      const struct udpgrm_dissector *dissector, int *sockets, size_t count)
{
	struct udpgrm_dissector flow = udpgrm_flow(0);
	int on = 1, error;
	size_t made = 0;

	while (made < count) {
		int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0)
			break;
		sockets[made++] = fd;
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) ||
		    bind(fd, address, length) ||
		    udpgrm_set_dissector(fd, dissector ? dissector : &flow))
			goto failed;
	}
	if (made == count)
		return 0;
failed:
	error = errno;
	while (made)
		close(sockets[--made]);
	errno = error;
	return -1;
}

/* Store a socket's generation, index and udpgrm cookie. */
static inline int udpgrm_socket_generation(int socket, struct udpgrm_socket_generation *value)
{
	socklen_t length = sizeof(*value);

	if (getsockopt(socket, IPPROTO_UDP, UDP_GRM_SOCKET_GEN, value, &length))
		return -1;
	if (value->pending)
		value->index = UDPGRM_NONE;
	return 0;
}

/* Milliseconds of a clock that only goes forward. */
static inline int64_t udpgrm_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Sleep for a millisecond; -1 with ETIMEDOUT after the deadline. */
static inline int udpgrm_pause(int64_t deadline)
{
	struct timespec pause = { 0, 1000000 };

	if (udpgrm_now_ms() > deadline) {
		errno = ETIMEDOUT;
		return -1;
	}
	nanosleep(&pause, NULL);
	return 0;
}

/*
 * Wait until the daemon has registered sockets that are in a generation; indices may be NULL.
 * ETIMEDOUT: no daemon runs, or the generation has 256 sockets.
 */
static inline int udpgrm_wait_registered(const int *sockets, size_t count, uint32_t *indices,
					 int timeout_ms)
{
	int64_t deadline = udpgrm_now_ms() + timeout_ms;
	struct udpgrm_socket_generation value;
	size_t i;

	for (i = 0; i < count; i++) {
		for (;;) {
			if (udpgrm_socket_generation(sockets[i], &value))
				return -1;
			if (value.index != UDPGRM_NONE)
				break;
			if (udpgrm_pause(deadline))
				return -1;
		}
		if (indices)
			indices[i] = value.index;
	}
	return 0;
}

/* Enroll sockets in a generation, and wait as udpgrm_wait_registered() does. */
static inline int udpgrm_enroll(const int *sockets, size_t count, uint32_t generation,
				uint32_t *indices, int timeout_ms)
{
	int64_t deadline = udpgrm_now_ms() + timeout_ms, left;
	size_t i;

	for (i = 0; i < count; i++) {
		while (setsockopt(sockets[i], IPPROTO_UDP, UDP_GRM_SOCKET_GEN, &generation,
				  sizeof(generation))) {
			/* EAGAIN: the daemon is busy, its queue is full */
			if (errno != EAGAIN || udpgrm_pause(deadline))
				return -1;
		}
	}
	left = deadline - udpgrm_now_ms();
	return udpgrm_wait_registered(sockets, count, indices, left > 0 ? (int)left : 0);
}

/* Make a generation the working one of the socket's group. */
static inline int udpgrm_promote(int socket, uint32_t generation)
{
	return setsockopt(socket, IPPROTO_UDP, UDP_GRM_WORKING_GEN, &generation,
			  sizeof(generation));
}

/*
 * Make or refresh the flow of a peer, as if the socket had sent to it; ::ffff:192.0.2.1 means
 * 192.0.2.1. EEXIST: another socket has the flow. EPERM: the group's dissector has no flow table,
 * or packets of this address family do not reach the socket.
 */
static inline int udpgrm_assure_flow(int socket, const struct sockaddr *peer)
{
	struct sockaddr_in6 six;
	struct sockaddr_in four;

	if (peer->sa_family != AF_INET6)
		return setsockopt(socket, IPPROTO_UDP, UDP_GRM_FLOW_ASSURE, peer, sizeof(four));
	memcpy(&six, peer, sizeof(six));
	if (!IN6_IS_ADDR_V4MAPPED(&six.sin6_addr))
		return setsockopt(socket, IPPROTO_UDP, UDP_GRM_FLOW_ASSURE, &six, sizeof(six));
	memset(&four, 0, sizeof(four));
	four.sin_family = AF_INET;
	four.sin_port = six.sin6_port;
	memcpy(&four.sin_addr, &six.sin6_addr.s6_addr[12], sizeof(four.sin_addr));
	return setsockopt(socket, IPPROTO_UDP, UDP_GRM_FLOW_ASSURE, &four, sizeof(four));
}

#ifdef __cplusplus
}
#endif

#endif
