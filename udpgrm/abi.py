# SPDX-License-Identifier: Apache-2.0
"""Mirror of bpf/abi.h, the one ABI; tests compare the two.

Structs are ctypes ones in native byte order; a field named in the header as
network byte order holds the bytes of the wire.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag

LAYOUT = 9

GENERATION_SLOTS = 32
SLOT_SOCKETS = 256
GROUP_ENTRIES = 8192
PORTS = 65536
MAX_APPS = 4
MAX_FILTER = 64
DEFAULT_FLOW_TIMEOUT_S = 125
GENERATION_NONE = 0xFFFFFFFF
ENTRY_NONE = 0xFFFF
INDEX_NONE = 0xFFFF
MAX_SNI = 8
HOSTNAME_BYTES = 62
NAME_BYTES = 32
PARAMETERS_BYTES = 484
USERS = 1024
HINTS = 4096
LINE_FLOWS = 3
UNIT_NAME_BYTES = 128
#: Flag in a key of `enrolled`: its first word names a process, not a cgroup.
ENROLLED_PROCESS = 1 << 62
#: Records of `enrolled` that one user may have, root excepted.
USER_ENROLLED = 2048
#: One of this many ids of groups and of flow tables is for root only.
RESERVE = 8


class Option(IntEnum):
    """Socket options at level IPPROTO_UDP, and of listeners of TCP at level IPPROTO_TCP."""

    WORKING_GEN = 200
    SOCKET_GEN = 201
    DISSECTOR = 202
    FLOW_ASSURE = 203
    SOCKET_APP = 204


DISSECTOR_VERBOSE = 0x8000
#: The one built-in of BESPOKE.
DIGEST_QUIC_SNI = 0xDEAD


class DissectorType(IntEnum):
    """The type of a dissector."""

    FLOW = 0
    CBPF = 1
    BESPOKE = 3
    NOOP = 4
    NAMED = 16


class GroupState(IntEnum):
    """The state of a group id."""

    SPARE = 0
    PREPARED = 1
    LIVE = 2
    DELETED = 3


class MessageFlag(IntFlag):
    """A request of a message to the daemon."""

    JOIN = 1
    REGISTER = 2
    WORKING_GEN = 4
    PROGRAM = 8
    RECHECK = 16
    CONNECT = 32


class Parted(IntEnum):
    """The changes of a socket by connect(2): enum parted."""

    OF_BOTH = 1
    OF_ONE = 2


class AnyAddress(IntEnum):
    """The any address that a socket is bound to: enum any_address."""

    ADDRESS = 1
    IPV4_ADDRESS = 2


class AddressUse(IntEnum):
    """The uses of an address that the bind hooks know: enum address_use."""

    SHARED = 0
    RESERVED = 1
    TRIED = 2
    STEERED = 3


class SteerStage(IntEnum):
    """The indices of the programs that steering programs of all groups continue in."""

    SEARCH = 0
    ANOTHER = 1


class KeyedBy(IntEnum):
    """The key of flows that are made by their sockets' sends: enum keyed_by."""

    PEER = 0
    CALL_ID = 1
    STATE = 2


class Relocation(IntEnum):
    """The ids of maps and constants that are bound when programs are linked."""

    SOCKET_REQUEST = 1
    REGISTRATIONS = 2
    GROUP_INDEX = 3
    GROUPS = 4
    DISSECTORS = 5
    FREE_GROUPS = 6
    FREE_TABLES = 7
    TABLE_INDEX = 8
    FLOW_TABLES = 9
    COUNTERS = 10
    ENTRIES = 11
    MESSAGES = 12
    POLICIES = 13
    USERS = 14
    PROBES = 15
    ADOPTED = 16
    SLOTS = 17
    SOCKETS = 18
    SOCKMAPS = 19
    QUIC_STAGES = 20
    QUIC_SCRATCH = 21
    QUIC_TABLES = 22
    ENROLLED = 23
    CONNECTED = 24
    ROOT_GROUPS = 25
    ROOT_TABLES = 26
    ROOT_MESSAGES = 27
    SERVICE_UNITS = 28
    SERVICE_CGROUPS = 29
    SHARED_ADDRESSES = 30
    ACCEPTED = 31
    STEER_STAGES = 32
    STEER_SCRATCH = 33
    ENROLLED_COUNTS = 34
    LINES = 35
    PORTS = 36
    SPARE_GROUPS = 37
    ROOT_SPARES = 38
    OWN_SLOTS = 56
    OWN_SOCKETS = 57
    OWN_COUNTERS = 58
    GROUP = 64
    EPOCH = 65
    HZ = 66
    PIDNS_DEV = 67
    PIDNS_INO = 68
    TGID_OFFSET = 69
    SYSCALL_ARG0_OFFSET = 70
    USER_GROUPS = 71
    USER_TABLES = 72
    USER_MESSAGES = 73
    SK_UID_OFFSET = 74
    SK_DEVICE_OFFSET = 75
    ATTACH_TOKEN = 76
    SK_PORTS_OFFSET = 77
    SK_REUSEPORT_OFFSET = 78
    SK_NET_OFFSET = 79
    SK_ADDRESS_OFFSET = 80
    SK_ADDRESS6_OFFSET = 81
    NET_COOKIE_OFFSET = 82
    PARENT_OFFSET = 83
    REUSEPORT_PROG_OFFSET = 84
    PROG_AUX_OFFSET = 85
    PROG_ID_OFFSET = 86
    CONNECT_PARTS = 87
    CGROUP_KN_OFFSET = 88
    CGROUP_ROOT_OFFSET = 89
    ROOT_HIERARCHY_OFFSET = 90
    CSS_PARENT_OFFSET = 91
    KN_ID_OFFSET = 92
    KN_NAME_OFFSET = 93
    SK_REUSE_OFFSET = 94
    FLOW_HASH_KEY0 = 95
    FLOW_HASH_KEY1 = 96
    SK_PEER6_OFFSET = 97
    SOCKET_SK_OFFSET = 98
    SK_COOKIE_OFFSET = 99
    LEADER_OFFSET = 100
    TASK_PID_OFFSET = 101
    PID_LEVEL_OFFSET = 102
    PID_NUMBERS_OFFSET = 103
    REUSEPORT_COUNT_OFFSET = 104
    REUSEPORT_SOCKETS_OFFSET = 105
    LINE_BITS = 106
    PARAMETERS = 128


class LinkedFunction(IntEnum):
    """The ids of functions that are made when programs are linked."""

    FILTER = 0x10000


COUNTERS = (
    "rx_processed_total",
    "rx_internal_state_error",
    "rx_cbpf_prog_error",
    "rx_packet_too_short_error",
    "rx_dissected_ok_total",
    "rx_flow_ok",
    "rx_flow_rg_conflict",
    "rx_flow_other_error",
    "rx_flow_new_unseen",
    "rx_flow_new_had_expired",
    "rx_flow_new_bad_cookie",
    "rx_new_flow_total",
    "rx_new_flow_working_gen_dispatch_ok",
    "rx_new_flow_working_gen_dispatch_error",
    "tx_total",
    "tx_flow_create_ok",
    "tx_flow_create_from_expired_ok",
    "tx_flow_create_error",
    "tx_flow_update_ok",
    "tx_flow_update_conflict",
)

_u8, _u16, _u32, _u64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64


class CbpfInstruction(ctypes.Structure):
    """struct cbpf_insn."""

    _fields_ = [("code", _u16), ("jt", _u8), ("jf", _u8), ("k", _u32)]


class _Filter(ctypes.Structure):
    _fields_ = [("filter_len", _u32), ("filter", CbpfInstruction * MAX_FILTER)]


class SniEntry(ctypes.Structure):
    """struct sni_entry."""

    _fields_ = [("app", _u8), ("reserved", _u8), ("hostname", ctypes.c_char * HOSTNAME_BYTES)]


class _Names(ctypes.Structure):
    _fields_ = [("sni_count", _u32), ("sni", SniEntry * MAX_SNI)]


class _Named(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char * NAME_BYTES),
        ("parameters", ctypes.c_char * PARAMETERS_BYTES),
    ]


class _DissectorUnion(ctypes.Union):
    _anonymous_ = ("of_filter", "of_names", "of_name")
    _fields_ = [("of_filter", _Filter), ("of_names", _Names), ("of_name", _Named)]


class Dissector(ctypes.Structure):
    """struct dissector, with every member of its union."""

    _anonymous_ = ("of_type",)
    _fields_ = [
        ("type", _u32),
        ("flow_timeout_s", _u32),
        ("max_apps", _u32),
        ("digest", _u32),
        ("label", ctypes.c_char * 100),
        ("of_type", _DissectorUnion),
    ]


class SocketGen(ctypes.Structure):
    """struct socket_gen."""

    _fields_ = [("generation", _u32), ("index", _u32), ("cookie", _u16), ("pending", _u16)]


class GroupKey(ctypes.Structure):
    """struct group_key; protocol: IPPROTO_TCP, or 0 for UDP."""

    _fields_ = [
        ("netns", _u64),
        ("ifindex", _u32),
        ("family", _u8),
        ("protocol", _u8),
        ("port", _u16),
        ("addr", _u8 * 16),
    ]


class Group(ctypes.Structure):
    """struct group."""

    _fields_ = [
        ("key", GroupKey),
        ("state", _u32),
        ("type", _u32),
        ("flow_timeout_s", _u32),
        ("max_apps", _u32),
        ("working", _u32 * MAX_APPS),
        ("working_slot", _u32 * MAX_APPS),
        ("timeout_jiffies", _u64),
        ("held_until", _u64),
        ("lines_since", _u64),
        ("table", _u16 * GENERATION_SLOTS),
        ("epoch", _u32),
        ("table_mask", _u32),
        ("next_entry", _u32),
        ("critical", _u32),
        ("critical_gauge", _u32),
        ("uid", _u32),
        ("flows", _u32),
        ("probes", _u32),
        ("program", _u32),
        ("awaited", _u32),
        ("parted", _u32),
        ("keyed_by", _u32),
    ]


class Policy(ctypes.Structure):
    """struct policy."""

    _fields_ = [("dissector", Dissector), ("flows", _u32), ("pad", _u32)]


class User(ctypes.Structure):
    """struct user."""

    _fields_ = [
        ("messages_sent", _u32),
        ("messages_served", _u32),
        ("groups_made", _u32),
        ("groups_gone", _u32),
        ("tables_taken", _u32),
        ("tables_returned", _u32),
    ]


class Membership(ctypes.Structure):
    """struct membership."""

    _fields_ = [("group", _u32), ("epoch", _u32), ("generation", _u32), ("app", _u32)]


class SocketRequest(ctypes.Structure):
    """struct socket_request."""

    _fields_ = [
        ("cookie", _u64),
        ("group", _u32),
        ("epoch", _u32),
        ("generation", _u32),
        ("app", _u16),
        ("registered", _u8),
        ("wildcard", _u8),
        ("ifindex", _u32),
        ("uid", _u32),
        ("process", Membership),
        ("adopted", _u8),
        ("parted", _u8),
        ("lent", _u8),
        ("ungrouped", _u8),
        ("bound_at", _u32),
        ("bound_pid", _u32),
        ("bound_fd", ctypes.c_int32),
    ]


class Registration(ctypes.Structure):
    """struct registration."""

    _fields_ = [
        ("cookie", _u64),
        ("group", _u32),
        ("epoch", _u32),
        ("generation", _u32),
        ("slot", _u16),
        ("index", _u16),
        ("array_entry", _u16),
        ("pad", _u16 * 3),
    ]


class Slot(ctypes.Structure):
    """struct slot."""

    _fields_ = [
        ("live", _u32),
        ("generation", _u32),
        ("app", _u32),
        ("pad", _u32),
        ("base_in", _u64),
        ("base_out", _u64),
        ("live_entries", _u16 * SLOT_SOCKETS),
        ("array_entry", _u16 * SLOT_SOCKETS),
    ]


class EntryRef(ctypes.Structure):
    """struct entry_ref."""

    _fields_ = [("array_entry", _u32), ("group_id", _u32)]


class FlowKey(ctypes.Structure):
    """struct flow_key."""

    _fields_ = [("addr", _u8 * 16), ("port", _u16), ("keyed_by", _u16)]


class Flow(ctypes.Structure):
    """struct flow."""

    _fields_ = [
        ("owner", _u64),
        ("last", _u64),
        ("array_entry", _u16),
        ("flags", _u16),
        ("pad", _u32),
    ]


class LineFlow(ctypes.Structure):
    """struct line_flow."""

    _fields_ = [("peer", _u64), ("state", _u64)]


class Line(ctypes.Structure):
    """struct line."""

    _fields_ = [
        ("flow", LineFlow * LINE_FLOWS),
        ("lacks", _u64),
        ("writers", _u32),
        ("pad", _u32),
    ]


class TableKey(ctypes.Structure):
    """struct table_key."""

    _fields_ = [("group_id", _u32), ("epoch", _u32), ("slot", _u32)]


class ProbePath(IntEnum):
    """The path by which a probe's last packet found its socket."""

    NONE = 0
    STEERED = 1
    EXISTING = 2
    NEW = 3
    CONNECTED = 4


class SteerScratch(ctypes.Structure):
    """struct steer_scratch."""

    _fields_ = [
        ("group_id", _u32),
        ("epoch", _u32),
        ("working", _u32),
        ("first", _u32),
        ("stale", _u32),
        ("key", FlowKey),
    ]


class ProbeKey(ctypes.Structure):
    """struct probe_key."""

    _fields_ = [("group_id", _u32), ("epoch", _u32), ("remote", FlowKey)]


class Probe(ctypes.Structure):
    """struct probe."""

    _fields_ = [
        ("steer", _u32),
        ("received", _u32),
        ("received_entry", _u32),
        ("path", _u32),
        ("replied", _u32),
        ("pad", _u32),
        ("replied_by", _u64),
        ("packets_in", _u64),
        ("packets_out", _u64),
        ("expires", _u64),
    ]


class AdoptedKey(ctypes.Structure):
    """struct adopted_key."""

    _fields_ = [("cgroup", _u64), ("group_id", _u32), ("epoch", _u32)]


class Adopted(ctypes.Structure):
    """struct adopted."""

    _fields_ = [("generation", _u32), ("app", _u32)]


class EnrolledCount(ctypes.Structure):
    """struct enrolled_count."""

    _fields_ = [("made", _u32), ("gone", _u32)]


class UnitKey(ctypes.Structure):
    """struct unit_key."""

    _fields_ = [("parent", _u64), ("name", ctypes.c_char * UNIT_NAME_BYTES)]


class SharedKey(ctypes.Structure):
    """struct shared_key."""

    _fields_ = [("service", _u64), ("address", GroupKey)]


class ConnectedKey(ctypes.Structure):
    """struct connected_key."""

    _fields_ = [("session", _u64), ("of", Membership)]


#: Program id in a socket record: a program of classic BPF, which has none.
PROGRAM_CLASSIC = 0xFFFFFFFF


class SocketRecord(ctypes.Structure):
    """struct socket_record."""

    _fields_ = [
        ("cookie", _u64),
        ("kernel_group", _u64),
        ("of", Membership),
        ("bound_at", _u32),
        ("pid", _u32),
        ("fd", ctypes.c_int32),
        ("connected", _u8),
        ("adopted", _u8),
        ("entered", _u8),
        ("parted", _u8),
        ("program", _u32),
        ("lent", _u8),
        ("shares", _u8),
        ("pad2", _u8 * 2),
        ("peer", FlowKey),
        ("pad3", _u32),
    ]


class Holder(ctypes.Structure):
    """struct holder."""

    _fields_ = [("cookie", _u64), ("pid", _u32), ("fd", _u32)]


class Ordered(ctypes.Structure):
    """struct ordered."""

    _fields_ = [("cookie", _u64), ("index", _u32), ("pad", _u32)]


class GenerationCounters(ctypes.Structure):
    """struct generation_counters."""

    _fields_ = [
        ("packets_in", _u64),
        ("packets_out", _u64),
        ("last_in", _u64),
        ("last_out", _u64),
    ]


class Counters(ctypes.Structure):
    """struct counters, of one CPU."""

    _fields_ = [
        ("total", _u64 * len(COUNTERS)),
        ("crossed", _u64),
        ("generation", GenerationCounters * GENERATION_SLOTS),
        ("hint", _u8 * HINTS),
    ]


class Message(ctypes.Structure):
    """struct message."""

    _fields_ = [
        ("flags", _u32),
        ("group_id", _u32),
        ("epoch", _u32),
        ("pid", _u32),
        ("ns_pid", _u32),
        ("fd", ctypes.c_int32),
        ("generation", _u32),
        ("app", _u32),
        ("cookie", _u64),
        ("uid", _u32),
        ("pad", _u32),
    ]


def slot_of(max_apps: int, app: int, generation: int) -> int:
    """Return the slot of an application's generation: its share of the 32, in turn."""
    share = GENERATION_SLOTS // max(max_apps, 1)
    return (app * share + generation % share) % GENERATION_SLOTS


def is_from(base: int, generation: int) -> bool:
    """Return whether a generation is this one or a later one: u32 sequence numbers, RFC 1982."""
    return (generation - base) % 2**32 < 2**31


def user_of(uid: int) -> int:
    """Return the index into users: root's is the first, other users share the rest."""
    return 1 + uid % (USERS - 1) if uid else 0


def make_cookie(slot: int, index: int) -> int:
    """Return the 16-bit udpgrm cookie: index << 8 | checksum << 5 | slot."""
    index &= 0xFF
    slot &= 0xFF
    check = 0xD ^ (index >> 4) ^ (index & 0xF) ^ (slot >> 4) ^ (slot & 0xF)
    check = (check & 7) ^ (check >> 3 & 1)
    return index << 8 | check << 5 | (slot & (GENERATION_SLOTS - 1))
