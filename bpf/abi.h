/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one ABI: socket options, map values, messages and relocation numbers
 * shared by every program here and by udpgrm/abi.py, which mirrors this file.
 * tests/unit/test_abi.py compiles it and compares sizes and offsets.
 */
#ifndef UDPGRM_ABI_H
#define UDPGRM_ABI_H

/* Raised when a map's layout changes; a daemon refuses maps of another layout. */
#define UDPGRM_LAYOUT 9

enum {
	GENERATION_SLOTS = 32,
	SLOT_SOCKETS = 256,
	GROUP_ENTRIES = 8192,
	PORTS = 65536,
	MAX_APPS = 4,
	MAX_FILTER = 64,
	DEFAULT_FLOW_TIMEOUT_S = 125,
	GENERATION_NONE = 0xffffffff,
	ENTRY_NONE = 0xffff,
	INDEX_NONE = 0xffff,
	MAX_SNI = 8,
	HOSTNAME_BYTES = 62,
	NAME_BYTES = 32,
	PARAMETERS_BYTES = 484,
	USERS = 1024,
	HINTS = 4096,
	LINE_FLOWS = 3,
	RESERVE = 8, /* of the ids of groups and flow tables, one of so many is for root only */
	UNIT_NAME_BYTES = 128,
};

/* Socket options, level IPPROTO_UDP; of listeners of TCP, level IPPROTO_TCP. */
enum {
	UDP_GRM_WORKING_GEN = 200,
	UDP_GRM_SOCKET_GEN = 201,
	UDP_GRM_DISSECTOR = 202,
	UDP_GRM_FLOW_ASSURE = 203,
	UDP_GRM_SOCKET_APP = 204,
};

enum {
	DISSECTOR_FLOW = 0,
	DISSECTOR_CBPF = 1,
	DISSECTOR_BESPOKE = 3,
	DISSECTOR_NOOP = 4,
	DISSECTOR_NAMED = 16, /* a folder of dissectors */
	DISSECTOR_VERBOSE = 0x8000,
};

enum { DIGEST_QUIC_SNI = 0xdead }; /* the one built-in of BESPOKE */

struct cbpf_insn {
	u16 code;
	u8 jt;
	u8 jf;
	u32 k;
};

struct sni_entry {
	u8 app;
	u8 reserved;
	char hostname[HOSTNAME_BYTES]; /* NUL-terminated */
};

/* Value of UDP_GRM_DISSECTOR. */
struct dissector {
	u32 type;
	u32 flow_timeout_s;
	u32 max_apps;
	u32 digest;
	char label[100];
	union {
		struct {
			u32 filter_len;
			struct cbpf_insn filter[MAX_FILTER];
		};
		struct {
			u32 sni_count;
			struct sni_entry sni[MAX_SNI];
		};
		struct {
			char name[NAME_BYTES];
			char parameters[PARAMETERS_BYTES]; /* JSON, NUL-terminated */
		};
	};
} __attribute__((packed, aligned(4)));

/* Value of UDP_GRM_SOCKET_GEN when read. */
struct socket_gen {
	u32 generation;
	u32 index;
	u16 cookie;
	u16 pending; /* 1: it moves, and the index is still that of its last generation */
};

/*
 * IPv4 addresses are kept as ::ffff:a.b.c.d; all in network byte order. Sockets of UDP and those of
 * TCP at one address are two groups, as to the kernel.
 */
struct group_key {
	u64 netns;
	u32 ifindex;
	u8 family;
	u8 protocol; /* IPPROTO_TCP; 0: UDP */
	u16 port;
	u32 addr[4];
};

/*
 * An operator's choice for groups of an address, before there is one; its
 * key is a group_key of no namespace and no device. flows: entries of a flow
 * table, 0: the default.
 */
struct policy {
	struct dissector dissector;
	u32 flows;
	u32 pad;
};

enum group_state {
	GROUP_SPARE = 0,    /* has no maps; its id is in spare_groups or root_spares */
	GROUP_PREPARED = 1, /* has its maps; its id is in free_groups or root_groups */
	GROUP_LIVE = 2,
	GROUP_DELETED = 3, /* the daemon releases its maps */
};

/*
 * A hook creates a live group out of a prepared or a spare one without the daemon, which makes the
 * maps of the latter before it registers a socket.
 * Written by hooks: key .. table, uid, flows, awaited (which the daemon sets back). Written by
 * the daemon: table where no hook did, and the rest; everything while the group is neither live nor
 * deleted. Commands write working, working_slot, probes, held_until and state.
 */
struct group {
	struct group_key key;
	u32 state;
	u32 type;	    /* dissector type and its verbose flag */
	u32 flow_timeout_s; /* effective */
	u32 max_apps;	    /* effective, 1 at least */
	u32 working[MAX_APPS];
	u32 working_slot[MAX_APPS];
	u64 timeout_jiffies;
	u64 held_until;	 /* jiffies; until then the kernel's hash chooses; 0: not held */
	u64 lines_since; /* jiffies: a flow that was last refreshed by then is not taken from a line
			  */
	u16 table[GENERATION_SLOTS]; /* flow table of a slot; 0: none */
	u32 epoch;		     /* which use of this id; 0: never used */
	u32 table_mask;		     /* slots whose table packets are searched for in */
	u32 next_entry;		     /* entries are handed out in turn, so reuse comes late */
	u32 critical;		     /* socket_critical */
	u32 critical_gauge;
	u32 uid;      /* owner: the user that bound its first socket */
	u32 flows;    /* entries of its flow tables; 0: those that hooks take */
	u32 probes;   /* how many probe records it has */
	u32 program;  /* which program steers it: head of its digest */
	u32 awaited;  /* the daemon was notified to check its sockets */
	u32 parted;   /* connected sockets at its address have SO_REUSEADDR, and no SO_REUSEPORT */
	u32 keyed_by; /* enum keyed_by, of packets that its sockets send: bpf/hooks/egress.c */
};

/*
 * Resources that the callers of one user id have in use, for quotas. Differences of
 * counters that only grow, one writer each: hooks the first of a pair, the
 * daemon the second. User ids share a record modulo its number; root has one
 * of its own, without quota.
 */
struct user {
	u32 messages_sent;
	u32 messages_served;
	u32 groups_made;
	u32 groups_gone;
	u32 tables_taken;
	u32 tables_returned;
};

/*
 * A generation of a group. Also storage of a listener of TCP, written by the daemon, of which the
 * kernel gives each connection that it accepts a copy.
 */
struct membership {
	u32 group; /* id + 1; 0: none */
	u32 epoch;
	u32 generation;
	u32 app;
};

/* The any address that a socket is bound to: an IPv6 socket may be at either. */
enum any_address {
	ANY_ADDRESS = 1,
	ANY_IPV4_ADDRESS = 2,
};

enum parted {
	PARTED_OF_BOTH = 1, /* SO_REUSEPORT was taken from it, and SO_REUSEADDR given */
	PARTED_OF_ONE = 2,  /* it had SO_REUSEADDR already */
};

/*
 * The requests of a socket: socket storage, written by hooks, and by
 * udpgrm enroll where the bind hook came too late.
 */
struct socket_request {
	u64 cookie;
	u32 group; /* id + 1; 0: no group yet */
	u32 epoch;
	u32 generation;
	u16 app;
	u8 registered;
	u8 wildcard; /* enum any_address; connect(2) shows one that it is not bound to */
	u32 ifindex; /* device it was bound on */
	u32 uid;     /* sk_uid: with whose sockets the kernel lets it share an address */
	struct membership process; /* of which it is one when it connects and asked for none */
	u8 adopted;    /* its cgroup was: the daemon is to enter it unless it connects */
	u8 parted;     /* enum parted: connect(2) has set options of it */
	u8 lent;       /* bind(2) has set SO_REUSEADDR, for the daemon to take back */
	u8 ungrouped;  /* bound without SO_REUSEPORT, or before the hooks: it can but connect */
	u32 bound_at;  /* jiffies */
	u32 bound_pid; /* a hint, as in struct message */
	s32 bound_fd;
};

/* The registration record: socket storage, written by the daemon only. */
struct registration {
	u64 cookie;
	u32 group; /* id + 1 */
	u32 epoch;
	u32 generation;
	u16 slot; /* 0..31; INDEX_NONE: entered, in no generation */
	u16 index;
	u16 array_entry;
	u16 pad[3];
};

/*
 * A generation of a group. A socket keeps its index while others close, so
 * new flows are spread over a list of their own, without gaps.
 */
struct slot {
	u32 live;
	u32 generation;
	u32 app;
	u32 pad;
	u64 base_in; /* its slot's packet counters when the generation came */
	u64 base_out;
	u16 live_entries[SLOT_SOCKETS]; /* the first `live` of them */
	u16 array_entry[SLOT_SOCKETS];	/* by index */
};

/* The array entry of a socket cookie. */
struct entry_ref {
	u32 array_entry;
	u32 group_id;
};

/* The key of flows that are made by their sockets' sends; else a group has KEYED_BY_PEER. */
enum keyed_by {
	KEYED_BY_PEER = 0,
	KEYED_BY_CALL_ID = 1, /* of SIP */
	KEYED_BY_STATE = 2,   /* of RADIUS */
};

/* A peer's address and port; or a hash in the place of the address, and what it is of. */
struct flow_key {
	u32 addr[4];
	u16 port;
	u16 keyed_by;
};

enum { FLOW_ORPHAN = 1 }; /* its socket was found closed */

struct flow {
	u64 owner; /* socket cookie */
	u64 last;  /* jiffies of the last refresh */
	u16 array_entry;
	u16 flags;
	u32 pad;
};

/* A flow of an IPv4 peer in its line. */
struct line_flow {
	u64 peer;  /* address, port; array entry of its socket: 32, 16 and 16 bits */
	u64 state; /* jiffies of the last refresh; group id; slot: 40, 19 and 5 bits */
};

/* A cache line of flows whose keys have one hash, of all groups: bpf/lines.h. */
struct line {
	struct line_flow flow[LINE_FLOWS];
	u64 lacks; /* jiffies: it may lack flows that were refreshed until then */
	u32 writers;
	u32 pad;
};

struct table_key {
	u32 group_id;
	u32 epoch;
	u32 slot;
};

/* Indices of the array of programs that steering programs continue in: bpf/stages. */
enum steer_stage { STAGE_SEARCH, STAGE_ANOTHER };

/* The state that a steering program hands on to a stage: per CPU, and only until the tail call. */
struct steer_scratch {
	u32 group_id;
	u32 epoch;
	u32 working; /* STAGE_ANOTHER: the slot that has no living socket */
	u32 first;   /* STAGE_SEARCH: the slot whose table has no fresh entry */
	u32 stale;   /* STAGE_SEARCH: its entry has expired */
	struct flow_key key;
};

/* The peer of a probe, for one group. */
struct probe_key {
	u32 group_id;
	u32 epoch;
	struct flow_key remote;
};

enum probe_path {
	PATH_NONE = 0,
	PATH_STEERED,  /* by the probe record itself */
	PATH_EXISTING, /* a known flow, by table or cookie */
	PATH_NEW,
	PATH_CONNECTED, /* to a connected socket, by the kernel: no program has seen it */
};

/*
 * A probe's packets: where they are to go and where they went. A command
 * writes steer and expires, the programs the rest. Slots are kept as slot + 1.
 */
struct probe {
	u32 steer; /* 0: like any packet */
	u32 received;
	u32 received_entry;
	u32 path;
	u32 replied;
	u32 pad;
	u64 replied_by; /* socket cookie */
	u64 packets_in;
	u64 packets_out;
	u64 expires; /* jiffies: its command may die */
};

/*
 * Cgroups whose later sockets the post_bind hooks enroll; in the map `enrolled`, cgroups and
 * processes that have enrolled sockets themselves.
 */
struct adopted_key {
	u64 cgroup; /* or ENROLLED_PROCESS and a thread group's id, of the first pid namespace */
	u32 group_id;
	u32 epoch;
};

#define ENROLLED_PROCESS (1ULL << 62)

struct adopted {
	u32 generation;
	u32 app;
};

/* A user may have so many records in `enrolled`, root excepted: each process that asks is one. */
#define USER_ENROLLED 2048

/* The number of a user's records is the difference. */
struct enrolled_count {
	u32 made; /* written by hooks */
	u32 gone; /* by the daemon */
};

/*
 * Connected sockets of a generation, as one reading of the iterator (a session of the kernel's)
 * has counted them.
 */
struct connected_key {
	u64 session;
	struct membership of;
};

enum { PROGRAM_CLASSIC = 0xffffffff }; /* one of classic BPF, which has no id */

/* A socket of a generation, as an iterator emits it. */
struct socket_record {
	u64 cookie;
	u64 kernel_group; /* names the kernel's reuseport group; 0: it is in none */
	struct membership of;
	u32 bound_at;
	u32 pid;
	s32 fd;
	u8 connected;
	u8 adopted;
	u8 entered;  /* the group's array has it */
	u8 parted;   /* it lacks SO_REUSEPORT, which connect(2) took */
	u32 program; /* id of the program of its kernel group; 0: none */
	u8 lent;     /* it has SO_REUSEADDR, which bind(2) has set */
	u8 shares;   /* it has SO_REUSEPORT */
	u8 pad2[2];
	struct flow_key peer; /* of a connected socket of UDP */
	u32 pad3;
};

/* A descriptor of a socket, as an iterator emits it. */
struct holder {
	u64 cookie;
	u32 pid; /* as the reader knows it */
	u32 fd;
};

/* Where a socket is in its kernel's reuseport group, as an iterator emits it. */
struct ordered {
	u64 cookie;
	u32 index;
	u32 pad;
};

/*
 * A unit of a service, by the control group above its own and its name, which ends at the @ of
 * a template.
 */
struct unit_key {
	u64 parent;
	char name[UNIT_NAME_BYTES];
};

/* An address (of no namespace and no device) that a service's instances share. */
struct shared_key {
	u64 service;
	struct group_key address;
};

/* The uses of such an address. */
enum address_use {
	ADDRESS_SHARED,
	/* the instance that serves has it, and the definition does not: no other may bind it */
	ADDRESS_RESERVED,
	/* as well, and one has tried to */
	ADDRESS_TRIED,
	/* a group's: it may be bound beside a reserved one that covers it */
	ADDRESS_STEERED,
};

/* Names are those of the metrics; the order is that of udpgrm/abi.py. */
enum counter {
	RX_PROCESSED_TOTAL,
	RX_INTERNAL_STATE_ERROR,
	RX_CBPF_PROG_ERROR,
	RX_PACKET_TOO_SHORT_ERROR,
	RX_DISSECTED_OK_TOTAL,
	RX_FLOW_OK,
	RX_FLOW_RG_CONFLICT,
	RX_FLOW_OTHER_ERROR,
	RX_FLOW_NEW_UNSEEN,
	RX_FLOW_NEW_HAD_EXPIRED,
	RX_FLOW_NEW_BAD_COOKIE,
	RX_NEW_FLOW_TOTAL,
	RX_NEW_FLOW_WORKING_GEN_DISPATCH_OK,
	RX_NEW_FLOW_WORKING_GEN_DISPATCH_ERROR,
	TX_TOTAL,
	TX_FLOW_CREATE_OK,
	TX_FLOW_CREATE_FROM_EXPIRED_OK,
	TX_FLOW_CREATE_ERROR,
	TX_FLOW_UPDATE_OK,
	TX_FLOW_UPDATE_CONFLICT,
	NR_COUNTERS,
};

struct generation_counters {
	u64 packets_in;
	u64 packets_out;
	u64 last_in; /* jiffies */
	u64 last_out;
};

/* Per CPU and group. */
struct counters {
	u64 total[NR_COUNTERS];
	u64 crossed; /* of TX_FLOW_UPDATE_CONFLICT: the flow is of another generation */
	struct generation_counters generation[GENERATION_SLOTS];
	u8 hint[HINTS]; /* by packet hash: slot | 0x80 whose table had the flow last */
};

enum message_flag {
	MESSAGE_JOIN = 1, /* first call of this socket */
	MESSAGE_REGISTER = 2,
	MESSAGE_WORKING_GEN = 4,
	MESSAGE_PROGRAM = 8,  /* refused an option that would change the group's program */
	MESSAGE_RECHECK = 16, /* of no socket: check those of the group in a moment */
	MESSAGE_CONNECT = 32, /* a socket with an array entry connects */
};

/* Ring buffer record: a group or a socket needs the daemon. */
struct message {
	u32 flags;
	u32 group_id;
	u32 epoch;
	u32 pid;    /* in the first pid namespace; 0: unknown */
	u32 ns_pid; /* in the daemon's; 0: the caller is in another one */
	s32 fd;	    /* a hint, to be checked: the first argument of the call */
	u32 generation;
	u32 app;
	u64 cookie;
	u32 uid;
	u32 pad;
};

/* References of programs; the package binds the numbers when it links. */
enum relocation {
	MAP_SOCKET_REQUEST = 1,
	MAP_REGISTRATIONS,
	MAP_GROUP_INDEX,
	MAP_GROUPS,
	MAP_DISSECTORS,
	MAP_FREE_GROUPS,
	MAP_FREE_TABLES,
	MAP_TABLE_INDEX,
	MAP_FLOW_TABLES,
	MAP_COUNTERS,
	MAP_ENTRIES,
	MAP_MESSAGES,
	MAP_POLICIES,
	MAP_USERS,
	MAP_PROBES,
	MAP_ADOPTED,
	MAP_SLOTS,
	MAP_SOCKETS,
	MAP_SOCKMAPS,
	MAP_QUIC_STAGES,
	MAP_QUIC_SCRATCH,
	MAP_QUIC_TABLES,
	MAP_ENROLLED,
	MAP_CONNECTED,
	MAP_ROOT_GROUPS,
	MAP_ROOT_TABLES,
	MAP_ROOT_MESSAGES,
	MAP_SERVICE_UNITS,
	MAP_SERVICE_CGROUPS,
	MAP_SHARED_ADDRESSES,
	MAP_ACCEPTED,
	MAP_STEER_STAGES,
	MAP_STEER_SCRATCH,
	MAP_ENROLLED_COUNTS,
	MAP_LINES,
	MAP_PORTS,
	MAP_SPARE_GROUPS,
	MAP_ROOT_SPARES,
	/* of one group */
	MAP_OWN_SLOTS = 56,
	MAP_OWN_SOCKETS,
	MAP_OWN_COUNTERS,
	/* constants */
	CONST_GROUP = 64,
	CONST_EPOCH,
	CONST_HZ,
	CONST_PIDNS_DEV,
	CONST_PIDNS_INO,
	CONST_TGID_OFFSET,
	CONST_SYSCALL_ARG0_OFFSET,
	CONST_USER_GROUPS,
	CONST_USER_TABLES,
	CONST_USER_MESSAGES,
	CONST_SK_UID_OFFSET,
	CONST_SK_DEVICE_OFFSET,
	CONST_ATTACH_TOKEN,
	CONST_SK_PORTS_OFFSET,
	CONST_SK_REUSEPORT_OFFSET,
	CONST_SK_NET_OFFSET,
	CONST_SK_ADDRESS_OFFSET,
	CONST_SK_ADDRESS6_OFFSET,
	CONST_NET_COOKIE_OFFSET,
	CONST_PARENT_OFFSET,
	CONST_REUSEPORT_PROG_OFFSET,
	CONST_PROG_AUX_OFFSET,
	CONST_PROG_ID_OFFSET,
	CONST_CONNECT_PARTS,
	CONST_CGROUP_KN_OFFSET,
	CONST_CGROUP_ROOT_OFFSET,
	CONST_ROOT_HIERARCHY_OFFSET,
	CONST_CSS_PARENT_OFFSET,
	CONST_KN_ID_OFFSET,
	CONST_KN_NAME_OFFSET,
	CONST_SK_REUSE_OFFSET,
	CONST_FLOW_HASH_KEY0,
	CONST_FLOW_HASH_KEY1,
	CONST_SK_PEER6_OFFSET,
	CONST_SOCKET_SK_OFFSET,
	CONST_SK_COOKIE_OFFSET,
	CONST_LEADER_OFFSET,
	CONST_TASK_PID_OFFSET,
	CONST_PID_LEVEL_OFFSET,
	CONST_PID_NUMBERS_OFFSET,
	CONST_REUSEPORT_COUNT_OFFSET,
	CONST_REUSEPORT_SOCKETS_OFFSET,
	CONST_LINE_BITS,
	/* of a named dissector, in the order of its schema */
	CONST_PARAMETERS = 128,
};

/* Functions that the package makes; beyond the numbers of the kernel's own. */
enum linked_function {
	FUNCTION_FILTER = 0x10000, /* a group's cBPF filter */
};

_Static_assert(sizeof(struct dissector) == 632, "dissector");
_Static_assert(sizeof(struct socket_gen) == 12, "socket_gen");
_Static_assert(sizeof(struct group_key) == 32, "group_key");
_Static_assert(sizeof(struct group) == 216, "group");
_Static_assert(sizeof(struct socket_request) == 64, "socket_request");
_Static_assert(sizeof(struct registration) == 32, "registration");
_Static_assert(sizeof(struct slot) == 1056, "slot");
_Static_assert(sizeof(struct entry_ref) == 8, "entry_ref");
_Static_assert(sizeof(struct flow_key) == 20, "flow_key");
_Static_assert(sizeof(struct flow) == 24, "flow");
_Static_assert(sizeof(struct line_flow) == 16, "line_flow");
_Static_assert(sizeof(struct line) == 64, "line");
_Static_assert(sizeof(struct table_key) == 12, "table_key");
_Static_assert(sizeof(struct steer_scratch) == 40, "steer_scratch");
_Static_assert(sizeof(struct policy) == 640, "policy");
_Static_assert(sizeof(struct user) == 24, "user");
_Static_assert(sizeof(struct probe_key) == 28, "probe_key");
_Static_assert(sizeof(struct probe) == 56, "probe");
_Static_assert(sizeof(struct adopted_key) == 16, "adopted_key");
_Static_assert(sizeof(struct adopted) == 8, "adopted");
_Static_assert(sizeof(struct membership) == 16, "membership");
_Static_assert(sizeof(struct connected_key) == 24, "connected_key");
_Static_assert(sizeof(struct socket_record) == 80, "socket_record");
_Static_assert(sizeof(struct holder) == 16, "holder");
_Static_assert(sizeof(struct unit_key) == 136, "unit_key");
_Static_assert(sizeof(struct shared_key) == 40, "shared_key");
_Static_assert(sizeof(struct counters) == 5288, "counters");
_Static_assert(sizeof(struct message) == 48, "message");

#endif
