"""Sends requests over one connection, each after the answer to the one before: HTTP/1.1, or HTTP/2 with so many streams
at once."""

import functools
import socket
import ssl
import struct

from measure.world import BODY, HOST, PATH

# A node under valgrind takes its time.
TIMEOUT = 60.0


class Http1:
    """A kept connection on which requests go one after the other."""

    def __init__(self, port: int, tls: bool):
        self.connection = connect(port, "http/1.1" if tls else None)

    def send(self, clients: list[str]) -> list[bytes]:
        """Sends a request for each client, and returns the heads of the answers."""
        return [self.send_to(HOST, PATH, client) for client in clients]

    def send_to(self, host: str, path: str, client: str) -> bytes:
        """Sends a request for this host and path, and returns the head of the answer."""
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: measure\r\nAccept: */*\r\nX-Forwarded-For: {client}\r\n\r\n"
        self.connection.sendall(request.encode())
        received = b""
        while not received.endswith(b"\r\n\r\n" + BODY):
            data = self.connection.recv(65536)
            received += data
            if not data or not received.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(f"{received[:400]!r} is no answer of {len(BODY)} bytes")
        head = received[: -len(BODY)]
        return head


class Http2:
    """A connection, without TLS by prior knowledge (h2c), on which `streams` requests go out together."""

    def __init__(self, port: int, streams: int, tls: bool = False):
        self.connection = connect(port, "h2" if tls else None)
        self.streams = streams
        self.stream = -1
        self.unread = b""
        window = 2**31 - 1
        # SETTINGS_INITIAL_WINDOW_SIZE, and the connection's own window beside it.
        self.connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window))
            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", window - 65_535))
        )

    def send(self, clients: list[str]) -> list[bytes]:
        """Sends a request for each client, and returns the header blocks of the answers."""
        blocks = []
        for first in range(0, len(clients), self.streams):
            together = clients[first : first + self.streams]
            self.connection.sendall(b"".join(self.request(client) for client in together))
            blocks += self.answers(len(together))
        return blocks

    def request(self, client: str) -> bytes:
        self.stream += 2
        block = b"\x82\x86"  # :method GET, :scheme http
        if self.stream == 1:
            # With incremental indexing: :authority, :path, user-agent, accept. They are 65 to 62 from then on.
            block += b"\x41" + text(HOST) + b"\x44" + text(PATH) + b"\x7a" + text("measure") + b"\x53" + text("*/*")
        else:
            block += bytes([0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62])
        block += b"\x00" + text("x-forwarded-for") + text(client)
        return frame(HEADERS, END_HEADERS | END_STREAM, self.stream, block)

    def answers(self, wanted: int) -> list[bytes]:
        """Reads until so many streams have ended."""
        blocks, lengths, ended = [], {}, 0
        while ended < wanted:
            kind, flags, stream, payload = self.frame()
            if kind == HEADERS:
                # Huffman-coded fields stay as they are; `:status 200` is one byte of the static table.
                if b"\x88" not in payload[:4]:
                    raise ConnectionError(f"stream {stream} was answered with something else than 200")
                blocks.append(payload)
            elif kind == DATA:
                lengths[stream] = lengths.get(stream, 0) + len(payload)
            elif kind in (SETTINGS, PING) and not flags & ACK:
                self.connection.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in (RST_STREAM, GOAWAY):
                raise ConnectionError(f"stream {stream} was ended by frame {kind} with {payload!r}")
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                ended += 1
        if sum(lengths.values()) != wanted * len(BODY):
            raise ConnectionError(f"{wanted} answers had {sum(lengths.values())} bytes")
        return blocks

    def frame(self) -> tuple[int, int, int, bytes]:
        head = self.read(9)
        length = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:], "big") & 0x7FFFFFFF, self.read(length)

    def read(self, length: int) -> bytes:
        while len(self.unread) < length:
            data = self.connection.recv(65536)
            if not data:
                raise ConnectionError("closed")
            self.unread += data
        taken, self.unread = self.unread[:length], self.unread[length:]
        return taken


def connect(port: int, protocol: str | None) -> socket.socket:
    """Connects, over TLS 1.3 if a protocol is named, which is then asked for by ALPN."""
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if protocol:
        connection = context(protocol).wrap_socket(connection, server_hostname=HOST)
    return connection


@functools.cache
def context(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([protocol])
    return context


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def text(value: str) -> bytes:
    """Encodes a string of HPACK, shorter than 127 bytes, without Huffman."""
    return bytes([len(value)]) + value.encode()


DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM = ACK = 1
END_HEADERS = 4
