"""HTTP/2 by its bytes: frames as a client likes to send them, HPACK without an encoder's scruples, and what comes back."""

import asyncio
import dataclasses
import socket
import struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR,
 REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY) = range(13)  # fmt: skip
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags=0, stream=0, payload=b"", length=None):
    length = len(payload) if length is None else length
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def setting(*pairs):
    return b"".join(struct.pack(">HI", number, value) for number, value in pairs)


def u32(number):
    return struct.pack(">I", number)


def integer(value, bits, pattern=0):
    """An integer after a prefix (RFC 7541, 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([pattern | value])
    encoded, value = [pattern | most], value - most
    while value >= 128:
        encoded.append(value % 128 + 128)
        value //= 128
    return bytes([*encoded, value])


def text(value):
    return integer(len(value), 7) + value


def literal(name, value, pattern=0x00):
    """A field without indexing (or, by 0x40, with), whose name is not indexed (RFC 7541, 6.2)."""
    return bytes([pattern]) + text(name) + text(value)


def fields(*pairs):
    return b"".join(literal(name, value) for name, value in pairs)


# Of the static table: GET, http, and POST.
GET, HTTP, POST, ROOT = b"\x82", b"\x86", b"\x83", b"\x84"


def path(value):
    return b"\x04" + text(value)


AUTHORITY = b"\x01" + text(b"a.example")


def request(target, method=GET):
    return method + HTTP + path(target) + AUTHORITY


@dataclasses.dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Connection:
    """A client's connection, over which the preface and its SETTINGS have gone. It reads what has come before it was reset."""

    def __init__(self, connected):
        self.socket, self.buffer, self.writing = connected, b"", asyncio.Lock()

    @classmethod
    async def open(cls, port, first=PREFACE + frame(SETTINGS)):
        connected = socket.socket()
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", port))
        connection = cls(connected)
        await connection.write(first)
        return connection

    async def take(self, count):
        """So many bytes; None where the connection ends before."""
        while len(self.buffer) < count:
            try:
                more = await asyncio.get_running_loop().sock_recv(self.socket, 1 << 16)
            except ConnectionError:
                more = b""
            if not more:
                return None
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    async def read(self):
        """The next frame; None at the end."""
        if (head := await self.take(9)) is None:
            return None
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        if (payload := await self.take(int.from_bytes(head[:3], "big"))) is None:
            return None
        if kind == SETTINGS and not flags & ACK:
            await self.write(frame(SETTINGS, ACK))
        return Frame(kind, flags, stream & 0x7FFFFFFF, payload)

    async def write(self, data):
        """Writes what the other side still takes."""
        async with self.writing:
            try:
                await asyncio.get_running_loop().sock_sendall(self.socket, data)
            except ConnectionError:
                pass

    def close(self):
        self.socket.close()
