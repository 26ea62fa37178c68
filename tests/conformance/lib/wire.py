"""HTTP/1.1 on raw sockets: an origin that keeps what it receives, and a client that sends bytes in two pieces.

Each exchange has a token, t000123x, in whatever it sends, so that thousands of them can run at a time: the origin finds
under it the requests that it has received, and what to answer them."""

import asyncio
import dataclasses
import re
import socket
import struct

TOKEN = re.compile(rb"t\d{6}x")
NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.[01]")
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ?[\t\x20-\x7e\x80-\xff]*")
# The pace of a client or origin whose bytes come in two pieces: long enough that the first is read alone.
PAUSE = 0.012
PATIENCE = 8


class Malformed(Exception):
    """A message that only a forgiving reader would read."""


@dataclasses.dataclass
class Message:
    """A request or an answer as it was received."""

    line: bytes
    fields: list
    content: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    is_whole: bool = False
    tunnelled: bytes = None

    @property
    def method(self):
        return self.line.split(b" ")[0].decode()

    @property
    def target(self):
        return self.line.split(b" ")[1].decode("latin-1")

    @property
    def status(self):
        return int(self.line.split(b" ")[1])

    def values(self, name):
        return [value for found, value in self.fields if found.lower() == name]


def parse_fields(lines):
    """Fields of lines, as strictly as RFC 9112, 5 has it."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not NAME.fullmatch(name) or not VALUE.fullmatch(value):
            raise Malformed(f"the field {line[:80]!r}")
        fields.append((name.decode(), value))
    return fields


def parse_head(head, pattern):
    """A head without the empty line at its end."""
    line, *lines = head.split(b"\r\n")
    if not pattern.fullmatch(line):
        raise Malformed(f"the line {line[:80]!r}")
    return Message(line, parse_fields(lines))


def framing(message):
    """Whether its content comes in chunks, and its length if it has one."""
    codings, lengths = message.values("transfer-encoding"), message.values("content-length")
    if len(codings) > 1 or len(lengths) > 1 or codings and lengths:
        raise Malformed(f"two lengths: {codings} {lengths}")
    if codings and codings[0].lower() != b"chunked":
        raise Malformed(f"the coding {codings[0]!r}")
    if lengths and not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        raise Malformed(f"the length {lengths[0]!r}")
    return bool(codings), int(lengths[0]) if lengths else None


class Bytes:
    """Reads bytes that are all here as a StreamReader reads what comes."""

    def __init__(self, rest):
        self.rest = rest

    async def readuntil(self, end):
        at = self.rest.find(end)
        if at < 0:
            raise asyncio.IncompleteReadError(self.rest, None)
        return await self.readexactly(at + len(end))

    async def readexactly(self, count):
        if len(self.rest) < count:
            raise asyncio.IncompleteReadError(self.rest, count)
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken


async def read_chunks(reader, message):
    """Chunked content, without extensions, and its trailers."""
    while True:
        line = (await reader.readuntil(b"\r\n"))[:-2]
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", line):
            raise Malformed(f"the chunk size {line[:80]!r}")
        size = int(line, 16)
        if size == 0:
            break
        try:
            message.content += await reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            message.content += error.partial
            raise
        if await reader.readexactly(2) != b"\r\n":
            raise Malformed("a chunk longer than its size")
    lines = []
    while (line := (await reader.readuntil(b"\r\n"))[:-2]) != b"":
        lines.append(line)
    message.trailers = parse_fields(lines)


class Origin:
    """An origin that reads strictly, keeps what it receives by token, and answers as `answers` says, else 200 with what it
    has understood."""

    def __init__(self):
        self.received, self.faults, self.answers = {}, [], {}

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 20, backlog=4096)
        self.port = self.server.sockets[0].getsockname()[1]

    async def serve(self, reader, writer):
        try:
            while await self.serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            # The last of them: asyncio's server makes a fuss of what the end of the program cancels.
            pass
        except (Malformed, asyncio.LimitOverrunError) as fault:
            self.faults.append(str(fault))
        writer.close()

    async def serve_one(self, reader, writer):
        """Serves one request; whether another may follow."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        except asyncio.IncompleteReadError as error:
            if error.partial and self.received_by(error.partial) is None:
                self.faults.append(f"a stray beginning: {error.partial[:80]!r}")
            return False
        request = parse_head(head, REQUEST_LINE)
        if (received := self.received_by(head)) is None:
            raise Malformed(f"a request of nobody: {head[:200]!r}")
        received.append(request)
        chunked, length = framing(request)
        if request.values("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if chunked:
            await read_chunks(reader, request)
        elif length:
            request.content = await reader.readexactly(length)
        request.is_whole = True
        if b"websocket" in [value.lower() for value in request.values("upgrade")]:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            request.tunnelled = await reader.readuntil(END)
            writer.write(request.tunnelled)
            return False
        return await self.answer(head, request, writer)

    def received_by(self, head):
        """The list for requests of this head's token."""
        found = TOKEN.search(head)
        return self.received.get(found.group()) if found else None

    async def answer(self, head, request, writer):
        if scripted := self.answers.get(TOKEN.search(head).group()):
            first, second, then = scripted
            if first:
                writer.write(first)
                await asyncio.sleep(PAUSE)
            writer.write(second)
            await writer.drain()
            if then == "reset":
                await asyncio.sleep(PAUSE)
                reset(writer)
            return then == "keep"
        content = f"{request.line.split(b' ')[1].decode('latin-1')}".encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content)
        writer.write(head if request.method == "HEAD" else head + content)
        return True


def reset(writer):
    """Ends a connection so that the other side sees it reset."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


# What a request that ends its connection ends with, as does what goes through a tunnel.
END = b"Connection: close\r\n\r\n"


async def send(port, data, cut, finish=False):
    """Sends bytes in two pieces, the second one after the `cut`, and reads until the other side closes: what came, and
    whether it ended in order ("end", "reset", or "nothing" if it did not)."""
    received = b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        async with asyncio.timeout(PATIENCE):
            if cut:
                writer.write(data[:cut])
                await asyncio.sleep(PAUSE)
            writer.write(data[cut:])
            if finish:
                writer.write_eof()
            while piece := await reader.read(1 << 16):
                received += piece
            return received, "end"
    except ConnectionError:
        return received, "reset"
    except TimeoutError:
        return received, "nothing"
    finally:
        writer.transport.abort()


async def answers_of(received, methods):
    """Reads what a client has received as answers to requests of these methods; those that are whole, and the rest."""
    reader, answers = Bytes(received), []
    methods = list(methods)
    while reader.rest:
        start = reader.rest
        try:
            answer = parse_head((await reader.readuntil(b"\r\n\r\n"))[:-4], STATUS_LINE)
        except asyncio.IncompleteReadError:
            return answers, start
        if 100 <= answer.status < 200 and answer.status != 101:
            continue
        answers.append(answer)
        method = methods.pop(0) if methods else "GET"
        if answer.status == 101:
            answer.is_whole, answer.tunnelled = True, reader.rest
            return answers, b""
        chunked, length = framing(answer)
        try:
            if method == "HEAD" or answer.status in (204, 304):
                pass
            elif chunked:
                await read_chunks(reader, answer)
            elif length is None:
                # Only the connection's end ends it: whoever asks knows how that was.
                answer.content, reader.rest = reader.rest, b""
                answer.is_whole = None
                continue
            else:
                try:
                    answer.content = await reader.readexactly(length)
                except asyncio.IncompleteReadError as error:
                    answer.content = error.partial
                    raise
            answer.is_whole = True
        except asyncio.IncompleteReadError:
            return answers, b""
    return answers, b""


class Tokens:
    """Gives each exchange a token of its own."""

    def __init__(self):
        self.next = 0

    def take(self):
        self.next += 1
        return b"t%06dx" % self.next


class Pace:
    """Runs jobs, so many at a time."""

    def __init__(self, at_a_time=96):
        self.places = asyncio.Semaphore(at_a_time)

    async def all(self, jobs):
        """Their results in order."""

        async def one(job):
            async with self.places:
                return await job

        return await asyncio.gather(*(one(job) for job in jobs))
