# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""Act as a client of Mumble: a TLS connection, and packets encrypted with keys from it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_VERSION, _AUTHENTICATE, _PING, _CRYPT_SETUP = 0, 2, 3, 15
_PINGS = 50
_PAUSE_S = 0.04
_TIMEOUT_S = 5
#: As Mumble's own client, which talks over TCP when no packet was answered for 20 s.
UNANSWERED = 4


def session(where: tuple[str, int]) -> tuple[int, int]:
    """Log in, ping over both protocols for 2 s; pings that were sent and that had no answer."""
    sent, unanswered = 2 * _PINGS, 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    lost = sent
    time.sleep(_PAUSE_S)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(where, _TIMEOUT_S) as plain,
        context.wrap_socket(plain) as control,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as voice,
    ):
        _send(control, _VERSION, b"\x08" + _varint(0x10304))
        _send(control, _AUTHENTICATE, _field(1, b"user%d" % control.getsockname()[1]))
        key, nonce = _fields(_await(control, _CRYPT_SETUP))
        packets = _Packets(key, nonce)
        voice.settimeout(_TIMEOUT_S)
        voice.connect(where)
        for number in range(_PINGS):
            time.sleep(_PAUSE_S)
            if unanswered == UNANSWERED:
                sent, lost = sent - 1, lost - 1
            else:
                unanswered += 1
                with contextlib.suppress(OSError):
                    voice.send(packets.encrypt(b"\x20" + bytes((number,))))
                    voice.recv(100)
                    lost, unanswered = lost - 1, 0
            _send(control, _PING, b"\x08" + _varint(number))
            _await(control, _PING)
            lost -= 1
    return sent, lost


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes((number & 0x7F | 0x80,))
        number >>= 7
    return found + bytes((number,))


def _field(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2, len(value))) + value


def _fields(message: bytes) -> list[bytes]:
    """Return the key and the client's nonce of a CryptSetup, 16 bytes each."""
    return [message[2:18], message[20:36]]


def _send(control: ssl.SSLSocket, kind: int, message: bytes) -> None:
    control.sendall(kind.to_bytes(2, "big") + len(message).to_bytes(4, "big") + message)


def _exactly(control: ssl.SSLSocket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = control.recv(size - len(found))
        if not piece:
            raise ConnectionResetError("the server ended the connection")
        found += piece
    return found


def _await(control: ssl.SSLSocket, wanted: int) -> bytes:
    while True:
        head = _exactly(control, 6)
        message = _exactly(control, int.from_bytes(head[2:], "big"))
        if int.from_bytes(head[:2], "big") == wanted:
            return message


class _Packets:
    """OCB2 with AES-128, as Mumble has it: the nonce's low byte, 3 bytes of the tag, the text."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        self._nonce = int.from_bytes(nonce, "little")

    def _block(self, number: int) -> int:
        return int.from_bytes(self._aes.update(number.to_bytes(16, "big")), "big")

    def encrypt(self, text: bytes) -> bytes:
        """Encrypt a packet of less than a block."""
        self._nonce = (self._nonce + 1) % (1 << 128)
        nonce = self._nonce.to_bytes(16, "little")
        delta = _doubled(self._block(int.from_bytes(nonce, "big")))
        pad = self._block(8 * len(text) ^ delta).to_bytes(16, "big")
        padded = int.from_bytes(text + pad[len(text) :], "big")
        secret = (padded ^ int.from_bytes(pad, "big")).to_bytes(16, "big")[: len(text)]
        tag = self._block(_doubled(delta) ^ delta ^ padded).to_bytes(16, "big")
        return nonce[:1] + tag[:3] + secret


def _doubled(number: int) -> int:
    return (number << 1) % (1 << 128) ^ (0x87 if number >> 127 else 0)
