"""HTTP/2 as clients should not speak it, and what may become of each by RFC 9113 and RFC 7541."""

from frames import (
    ACK, AUTHORITY, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, GET, GOAWAY, HEADERS, HTTP, PADDED, PING, POST, PREFACE, PRIORITY, PROTOCOL_ERROR,
    PUSH_PROMISE, RST_STREAM, SETTINGS, STREAM_CLOSED, WINDOW_UPDATE, WITH_PRIORITY, fields, frame, integer, literal, path,
    request, setting, text, u32,
)  # fmt: skip

ANY = frozenset(range(14))
ONE = 1


class Outcome:
    def __str__(self):
        return f"{type(self).__name__} {' '.join(map(str, vars(self).values()))}"[:40].strip()


class Ended(Outcome):
    """A connection error: GOAWAY with one of these codes, and the end."""

    def __init__(self, *codes):
        self.codes = codes


class Dead(Outcome):
    """The connection ends, in whatever way."""


class Reset(Outcome):
    """A stream error: RST_STREAM with one of these codes, and the connection goes on."""

    def __init__(self, *codes, stream=ONE):
        self.codes, self.stream = codes, stream


class Served(Outcome):
    """Streams are answered with one of these statuses, and the connection goes on."""

    def __init__(self, *statuses, streams=(ONE,)):
        self.statuses, self.streams = statuses or (200,), streams


class Calm(Outcome):
    """Nothing comes of it."""


class Case:
    """What is sent to which path, and each outcome that is right; how many requests reach the origin, if it matters; what is
    sent `then`, once the streams that it `awaits` have ended."""

    def __init__(self, sent, *outcomes, reaches=None, then=b"", awaits=(), probed=True, with_preface=True):
        self.sent = sent if callable(sent) else lambda _: sent
        self.outcomes, self.reaches, self.then, self.awaits = outcomes, reaches, then, awaits
        self.probed, self.with_preface = probed, with_preface


def get(more=b"", flags=END_STREAM | END_HEADERS, stream=ONE, method=GET):
    """What makes a GET of a path."""
    return lambda path: frame(HEADERS, flags, stream, request(path, method) + more)


def post(*after, more=b"", stream=ONE):
    """The same of a POST, with frames after its head."""
    return lambda path: frame(HEADERS, END_HEADERS, stream, request(path, POST) + more) + b"".join(after)


def block(*pieces, flags=END_STREAM | END_HEADERS):
    """A request's head of exactly these pieces, of which PATH is the path."""
    head = lambda path: b"".join(b"\x04" + text(path) if piece is PATH else piece for piece in pieces)  # noqa: E731
    return lambda path: frame(HEADERS, flags, ONE, head(path))


PATH = object()
FIRST = PREFACE + frame(SETTINGS)
HELLO = frame(DATA, END_STREAM, ONE, b"hello")
LENGTH = literal(b"content-length", b"5")
# A stream error by RFC 9113, 8.1.1; an answer may say so, and any stream error may be a connection's (5.4.1).
MALFORMED = Reset(PROTOCOL_ERROR), Served(*range(400, 500), 501), Ended(PROTOCOL_ERROR)
PROTOCOL = Ended(PROTOCOL_ERROR)
# h2, the node's library, has PROTOCOL_ERROR, the unspecific one (7), where RFC 9113 wants these. The end is the same.
SIZE, FLOW = Ended(FRAME_SIZE_ERROR, PROTOCOL_ERROR), Ended(FLOW_CONTROL_ERROR, PROTOCOL_ERROR)
COMPRESSION = Ended(COMPRESSION_ERROR, PROTOCOL_ERROR)
CLOSED = Ended(STREAM_CLOSED, PROTOCOL_ERROR), Reset(STREAM_CLOSED)
TOO_MUCH = Ended(ENHANCE_YOUR_CALM)


def malformed(*pieces):
    return Case(block(*pieces), *MALFORMED, reaches=0)


def with_field(name, value, *outcomes):
    outcomes = outcomes or MALFORMED
    return Case(get(literal(name, value)), *outcomes, reaches=None if any(isinstance(o, Served) and 200 in o.statuses for o in outcomes) else 0)


def settings(*pairs, flags=0, stream=0):
    return frame(SETTINGS, flags, stream, setting(*pairs))


def huffman(bits):
    """A literal whose value is these bits, called Huffman's."""
    return b"\x00" + text(b"x-a") + bytes([0x80 | len(bits)]) + bits


def bomb(references):
    """A field of 3,000 bytes in the table, and references to it."""
    long = literal(b"x-a", b"a" * 3000, 0x40)
    return get(long + b"\xbe" * references)


def continued(path, *pieces, last=END_HEADERS):
    """A GET whose head comes in CONTINUATIONs."""
    head = request(path)
    return frame(HEADERS, END_STREAM, ONE, head[:5]) + b"".join(pieces) + frame(CONTINUATION, last, ONE, head[5:])


def opened_and_reset(count):
    def sent(path):
        streams = range(1, 2 * count, 2)
        return b"".join(get(stream=stream)(path) + frame(RST_STREAM, 0, stream, u32(CANCEL)) for stream in streams)

    return sent


CASES = {
    # As it should be.
    "get": Case(get(), Served(), reaches=1),
    "head": Case(get(method=b"\x02" + text(b"HEAD")), Served(), reaches=1),
    "post": Case(post(HELLO), Served(), reaches=1),
    "post-length": Case(post(HELLO, more=LENGTH), Served(), reaches=1),
    "post-no-content": Case(get(literal(b"content-length", b"0"), method=POST), Served(), reaches=1),
    "post-two-frames": Case(post(frame(DATA, 0, ONE, b"he"), frame(DATA, END_STREAM, ONE, b"llo")), Served(), reaches=1),
    "post-empty-end": Case(post(frame(DATA, 0, ONE, b"hello"), frame(DATA, END_STREAM, ONE)), Served(), reaches=1),
    "post-largest-frame": Case(post(frame(DATA, END_STREAM, ONE, bytes(16384))), Served(), reaches=1),
    "trailers": Case(post(frame(DATA, 0, ONE, b"hello"), frame(HEADERS, END_STREAM | END_HEADERS, ONE, fields((b"x-a", b"1")))), Served(), reaches=1),
    "two-streams": Case(lambda path: get()(path) + get(stream=3)(path), Served(streams=(1, 3)), reaches=2),
    "cookies": Case(get(fields((b"cookie", b"a=1"), (b"cookie", b"b=2"))), Served(), reaches=1),
    "te-trailers": Case(get(literal(b"te", b"trailers")), Served(), reaches=1),
    "host-only": Case(block(GET, HTTP, PATH, literal(b"host", b"a.example")), Served(), reaches=1),
    "options-of-all": Case(block(b"\x02" + text(b"OPTIONS"), HTTP, path(b"*"), AUTHORITY), Served(200, 204)),
    "dynamic-table": Case(lambda path: get(literal(b"x-a", b"1", 0x40))(path) + get(b"\xbe", stream=3)(path), Served(streams=(1, 3)), reaches=2),
    # The preface (3.4).
    "preface-wrong": Case(PREFACE[:-6] + b"XX\r\n\r\n", Dead(), with_preface=False, probed=False),
    "preface-no-settings": Case(PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL, Dead(), with_preface=False),
    "preface-headers-first": Case(lambda path: PREFACE + get()(path), PROTOCOL, Dead(), reaches=0, with_preface=False),
    "preface-twice": Case(FIRST, PROTOCOL, SIZE, Dead()),
    # Frames (4, 5, 6).
    "unknown-frame": Case(frame(0x42, 0xFF, 0, b"what"), Calm()),
    "unknown-frame-on-stream": Case(post(frame(0x42, 0, ONE, b"what"), HELLO), Served(), reaches=1),
    "unknown-frame-on-idle-stream": Case(frame(0x42, 0, 99, b"what"), Calm()),
    "unknown-frame-too-large": Case(frame(0x42, 0, 0, bytes(16385)), SIZE),
    "unknown-frame-in-head": Case(lambda path: continued(path, frame(0x42, 0, ONE)), PROTOCOL, reaches=0),
    "unknown-flags": Case(frame(PING, 0xFE, 0, bytes(8)), Calm()),
    "unknown-flags-of-headers": Case(get(flags=END_STREAM | END_HEADERS | 0xC2), Served(), reaches=1),
    "reserved-bit": Case(get(stream=0x80000001), Served(), reaches=1),
    "data-too-large": Case(post(frame(DATA, END_STREAM, ONE, bytes(16385))), SIZE, Reset(FRAME_SIZE_ERROR), reaches=0),
    "headers-too-large": Case(get(literal(b"x-a", b"a" * 17000)), SIZE, reaches=0),
    "data-on-0": Case(frame(DATA, 0, 0, b"x"), PROTOCOL),
    "data-on-idle": Case(frame(DATA, END_STREAM, 5, b"x"), PROTOCOL, Ended(STREAM_CLOSED)),
    "data-padding-too-long": Case(post(frame(DATA, END_STREAM | PADDED, ONE, b"\x06hello")), PROTOCOL, reaches=0),
    "data-padding-all": Case(post(frame(DATA, END_STREAM | PADDED, ONE, b"\x05hello")), Served(), reaches=1),
    "data-padded": Case(post(frame(DATA, END_STREAM | PADDED, ONE, b"\x03hello\0\0\0"), more=LENGTH), Served(), reaches=1),
    "data-padded-nothing": Case(post(frame(DATA, END_STREAM | PADDED, ONE, b"")), SIZE, PROTOCOL, reaches=0),
    "data-after-end": Case(post(HELLO, HELLO), *CLOSED, Served()),
    "data-after-answer": Case(get(), *CLOSED, awaits=(1,), then=HELLO),
    "data-after-reset": Case(post(frame(RST_STREAM, 0, ONE, u32(CANCEL)), HELLO), *CLOSED, Calm()),
    "headers-on-0": Case(get(stream=0), PROTOCOL, reaches=0),
    "headers-even-stream": Case(get(stream=2), PROTOCOL, reaches=0),
    "headers-lower-stream": Case(lambda path: get(stream=5)(path) + get(stream=3)(path), PROTOCOL, Ended(STREAM_CLOSED)),
    "headers-after-end": Case(lambda path: get()(path) * 2, *CLOSED, PROTOCOL),
    "headers-after-answer": Case(get(), *CLOSED, PROTOCOL, awaits=(1,), then=frame(HEADERS, END_STREAM | END_HEADERS, ONE, request(b"/"))),
    "headers-padded": Case(lambda path: frame(HEADERS, END_STREAM | END_HEADERS | PADDED, ONE, b"\x03" + request(path) + bytes(3)), Served(), reaches=1),
    "headers-padding-too-long": Case(lambda path: frame(HEADERS, END_STREAM | END_HEADERS | PADDED, ONE, b"\xff" + request(path)), PROTOCOL, reaches=0),
    "headers-with-priority": Case(lambda path: frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, ONE, u32(0) + b"\x10" + request(path)), Served(), reaches=1),
    "headers-priority-cut": Case(frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, ONE, u32(0)), SIZE, PROTOCOL, reaches=0),
    "headers-depend-on-themselves": Case(
        lambda path: frame(HEADERS, END_STREAM | END_HEADERS | WITH_PRIORITY, ONE, u32(1) + b"\x10" + request(path)), Served(), *MALFORMED,
    ),
    "continuation": Case(lambda path: continued(path), Served(), reaches=1),
    "continuation-empty": Case(lambda path: continued(path, frame(CONTINUATION, 0, ONE) * 3), Served(), reaches=1),
    "continuation-padded-headers": Case(
        lambda path: frame(HEADERS, END_STREAM | PADDED, ONE, b"\x01" + request(path)[:5] + b"\0") + frame(CONTINUATION, END_HEADERS, ONE, request(path)[5:]),
        Served(), reaches=1,
    ),
    "continuation-alone": Case(frame(CONTINUATION, END_HEADERS, ONE, GET), PROTOCOL),
    "continuation-on-0": Case(lambda path: continued(path, frame(CONTINUATION, 0, 0, b"")), PROTOCOL, reaches=0),
    "continuation-of-other": Case(lambda path: continued(path, frame(CONTINUATION, 0, 3, b"")), PROTOCOL, reaches=0),
    "continuation-after-end": Case(lambda path: get()(path) + frame(CONTINUATION, END_HEADERS, ONE, GET), PROTOCOL, Ended(STREAM_CLOSED)),
    "ping-in-head": Case(lambda path: continued(path, frame(PING, 0, 0, bytes(8))), PROTOCOL, reaches=0),
    "data-in-head": Case(lambda path: continued(path, frame(DATA, 0, ONE, b"x")), PROTOCOL, reaches=0),
    "headers-in-head": Case(lambda path: continued(path, get(stream=3)(path)), PROTOCOL, reaches=0),
    "priority-in-head": Case(lambda path: continued(path, frame(PRIORITY, 0, ONE, u32(0) + b"\1")), PROTOCOL, reaches=0),
    "settings-in-head": Case(lambda path: continued(path, settings()), PROTOCOL, reaches=0),
    "priority": Case(frame(PRIORITY, 0, 9, u32(0) + b"\x10"), Calm()),
    "priority-on-0": Case(frame(PRIORITY, 0, 0, u32(1) + b"\x10"), PROTOCOL),
    "priority-short": Case(post(frame(PRIORITY, 0, ONE, u32(3)), HELLO), SIZE, Reset(FRAME_SIZE_ERROR)),
    "priority-of-itself": Case(frame(PRIORITY, 0, 9, u32(9) + b"\x10"), Calm(), PROTOCOL, Reset(PROTOCOL_ERROR, stream=9)),
    "priority-after-answer": Case(get(), Served(), awaits=(1,), then=frame(PRIORITY, 0, ONE, u32(0) + b"\x10")),
    "reset-on-0": Case(frame(RST_STREAM, 0, 0, u32(CANCEL)), PROTOCOL),
    "reset-of-idle": Case(frame(RST_STREAM, 0, 9, u32(CANCEL)), PROTOCOL),
    "reset-short": Case(post(frame(RST_STREAM, 0, ONE, b"\0\0\x08")), SIZE),
    "reset-long": Case(post(frame(RST_STREAM, 0, ONE, bytes(5))), SIZE),
    "reset-unknown-code": Case(post(frame(RST_STREAM, 0, ONE, u32(0xABCDEF))), Calm()),
    "reset-after-answer": Case(get(), Served(), awaits=(1,), then=frame(RST_STREAM, 0, ONE, u32(CANCEL))),
    "settings-unknown": Case(settings((0xABCD, 7)), Calm()),
    "settings-empty": Case(settings(), Calm()),
    "settings-many": Case(settings((1, 0), (2, 0), (3, 0), (4, 65535), (5, 16384), (6, 100000)), Calm()),
    "settings-ack-unasked": Case(frame(SETTINGS, ACK), Calm(), PROTOCOL),
    "settings-ack-with-content": Case(frame(SETTINGS, ACK, 0, setting((4, 1))), SIZE),
    "settings-on-stream": Case(settings((4, 100), stream=ONE), PROTOCOL),
    "settings-length-5": Case(frame(SETTINGS, 0, 0, bytes(5)), SIZE),
    "settings-push-2": Case(settings((2, 2)), PROTOCOL),
    "settings-window-too-large": Case(settings((4, 1 << 31)), FLOW),
    "settings-window-largest": Case(settings((4, (1 << 31) - 1)), Calm()),
    "settings-frame-size-too-small": Case(settings((5, 16383)), PROTOCOL),
    "settings-frame-size-too-large": Case(settings((5, 1 << 24)), PROTOCOL),
    "settings-frame-size-largest": Case(settings((5, (1 << 24) - 1)), Calm()),
    "settings-window-overflows-streams": Case(
        lambda path: post(frame(WINDOW_UPDATE, 0, ONE, u32((1 << 31) - 1 - 65535)))(path) + settings((4, 65536)), FLOW, Reset(FLOW_CONTROL_ERROR),
    ),
    "push-promise": Case(frame(PUSH_PROMISE, END_HEADERS, ONE, u32(2) + request(b"/")), PROTOCOL),
    "push-promise-on-stream": Case(post(frame(PUSH_PROMISE, END_HEADERS, ONE, u32(2) + request(b"/"))), PROTOCOL, reaches=0),
    "ping-on-stream": Case(frame(PING, 0, ONE, bytes(8)), PROTOCOL),
    "ping-short": Case(frame(PING, 0, 0, bytes(6)), SIZE),
    "ping-long": Case(frame(PING, 0, 0, bytes(9)), SIZE),
    "ping-ack-unasked": Case(frame(PING, ACK, 0, bytes(8)), Calm()),
    "goaway-on-stream": Case(frame(GOAWAY, 0, ONE, u32(0) + u32(0)), PROTOCOL),
    "goaway-short": Case(frame(GOAWAY, 0, 0, bytes(7)), SIZE, PROTOCOL),
    "goaway-unknown-code": Case(frame(GOAWAY, 0, 0, u32(0) + u32(0xABCDEF)), Calm(), Dead()),
    "window-update-0": Case(frame(WINDOW_UPDATE, 0, 0, u32(0)), PROTOCOL),
    "window-update-0-of-stream": Case(post(frame(WINDOW_UPDATE, 0, ONE, u32(0))), Reset(PROTOCOL_ERROR), PROTOCOL),
    "window-update-overflow": Case(frame(WINDOW_UPDATE, 0, 0, u32((1 << 31) - 1)), FLOW),
    "window-update-overflow-of-stream": Case(post(frame(WINDOW_UPDATE, 0, ONE, u32((1 << 31) - 1))), Reset(FLOW_CONTROL_ERROR), FLOW),
    "window-update-reserved-bit": Case(frame(WINDOW_UPDATE, 0, 0, u32(0x80000001)), Calm()),
    "window-update-short": Case(frame(WINDOW_UPDATE, 0, 0, bytes(3)), SIZE),
    "window-update-of-idle": Case(frame(WINDOW_UPDATE, 0, 9, u32(1)), PROTOCOL),
    "window-update-after-answer": Case(get(), Served(), awaits=(1,), then=frame(WINDOW_UPDATE, 0, ONE, u32(1))),
    "window-0-then-open": Case(lambda path: settings((4, 0)) + get()(path) + frame(WINDOW_UPDATE, 0, ONE, u32(100)) + settings((4, 65535)), Served(), reaches=1),
    # HPACK (RFC 7541).
    "index-0": Case(get(b"\x80"), COMPRESSION, reaches=0),
    "index-62-of-none": Case(get(b"\xbe"), COMPRESSION, reaches=0),
    "index-huge": Case(get(integer(1 << 20, 7, 0x80)), COMPRESSION, reaches=0),
    "index-of-evicted": Case(get(b"\x3f\xe1\x1f" + literal(b"x-a", b"1", 0x40)), COMPRESSION, reaches=0),
    "name-index-too-high": Case(get(b"\x0f\x40" + text(b"1")), COMPRESSION, reaches=0),
    "integer-overflow": Case(get(b"\xff" + b"\xff" * 10 + b"\x01"), COMPRESSION, reaches=0),
    "integer-endless": Case(get(b"\xff" + b"\x80" * 100 + b"\x00"), COMPRESSION, reaches=0),
    "integer-cut": Case(get(b"\xff"), COMPRESSION, reaches=0),
    "text-cut": Case(get(b"\x00\x03x-"), COMPRESSION, reaches=0),
    "text-length-huge": Case(get(b"\x00\x7f\xff\xff\xff\x07x"), COMPRESSION, reaches=0),
    "value-missing": Case(get(b"\x00\x03x-a"), COMPRESSION, reaches=0),
    "huffman": Case(get(huffman(b"\x0f")), Served(), reaches=1),
    "huffman-padding-zeros": Case(get(huffman(b"\x08")), COMPRESSION, reaches=0),
    "huffman-padding-long": Case(get(huffman(b"\x0f\xff")), COMPRESSION, reaches=0),
    "huffman-end": Case(get(huffman(b"\xff\xff\xff\xff")), COMPRESSION, reaches=0),
    "table-0": Case(block(b"\x20", GET, HTTP, PATH, AUTHORITY), Served(), reaches=1),
    "table-0-then-4096": Case(block(b"\x20\x3f\xe1\x1f", GET, HTTP, PATH, AUTHORITY), Served(), reaches=1),
    "table-too-large": Case(block(b"\x3f\xe2\xff\xff\x03", GET, HTTP, PATH, AUTHORITY), COMPRESSION, reaches=0),
    "table-late": Case(get(b"\x20"), COMPRESSION, reaches=0),
    "bomb": Case(bomb(10_000), Ended(*ANY), Reset(*ANY), Served(431), reaches=0),
    "bomb-small": Case(bomb(60), Ended(*ANY), Reset(*ANY), Served(431), reaches=0),
    "head-of-2-mib": Case(
        lambda path: frame(HEADERS, END_STREAM, ONE, request(path)) + frame(CONTINUATION, 0, ONE, literal(b"x-a", b"a" * 16000)) * 130 + frame(CONTINUATION, END_HEADERS, ONE),
        Ended(*ANY), Reset(*ANY), Served(431), reaches=0,
    ),
    # Requests (8).
    "name-upper-case": with_field(b"X-A", b"1"),
    "name-empty": with_field(b"", b"1"),
    "name-space": with_field(b"x a", b"1"),
    "name-colon": with_field(b"x:a", b"1"),
    "name-line-feed": with_field(b"x\na", b"1"),
    "name-nul": with_field(b"x\0a", b"1"),
    "name-obs-text": with_field(b"x\xffa", b"1"),
    "value-line-feed": with_field(b"x-a", b"1\nx-b: 2"),
    "value-carriage-return": with_field(b"x-a", b"1\r2"),
    "value-crlf": with_field(b"x-a", b"1\r\n\r\nGET /smuggled HTTP/1.1"),
    "value-nul": with_field(b"x-a", b"1\0"),
    "value-space-first": with_field(b"x-a", b" 1", *MALFORMED, Served()),
    "value-space-last": with_field(b"x-a", b"1\t", *MALFORMED, Served()),
    "value-obs-text": with_field(b"x-a", b"\xfc", *MALFORMED, Served()),
    "value-empty": with_field(b"x-a", b"", Served()),
    "connection": with_field(b"connection", b"close"),
    "keep-alive": with_field(b"keep-alive", b"timeout=5"),
    "proxy-connection": with_field(b"proxy-connection", b"keep-alive"),
    "transfer-encoding": with_field(b"transfer-encoding", b"chunked"),
    "transfer-encoding-of-content": Case(post(HELLO, more=literal(b"transfer-encoding", b"chunked")), *MALFORMED, reaches=0),
    "upgrade": with_field(b"upgrade", b"websocket"),
    "te-gzip": with_field(b"te", b"gzip"),
    "te-trailers-and-gzip": with_field(b"te", b"trailers, gzip"),
    "method-missing": malformed(HTTP, PATH, AUTHORITY),
    "scheme-missing": malformed(GET, PATH, AUTHORITY),
    "path-missing": malformed(GET, HTTP, AUTHORITY),
    "all-missing": malformed(literal(b"x-a", b"1")),
    "head-empty": malformed(),
    "method-twice": malformed(GET, GET, HTTP, PATH, AUTHORITY),
    "scheme-twice": malformed(GET, HTTP, HTTP, PATH, AUTHORITY),
    "path-twice": malformed(GET, HTTP, PATH, PATH, AUTHORITY),
    "authority-twice": malformed(GET, HTTP, PATH, AUTHORITY, AUTHORITY),
    "pseudo-unknown": malformed(GET, HTTP, PATH, AUTHORITY, literal(b":a", b"1")),
    "pseudo-of-answers": malformed(GET, HTTP, PATH, AUTHORITY, b"\x88"),
    "pseudo-after-others": malformed(GET, HTTP, literal(b"x-a", b"1"), PATH, AUTHORITY),
    "pseudo-upper-case": malformed(literal(b":Method", b"GET"), HTTP, PATH, AUTHORITY),
    "pseudo-protocol-of-get": malformed(GET, HTTP, PATH, AUTHORITY, literal(b":protocol", b"websocket")),
    "path-empty": malformed(GET, HTTP, path(b""), AUTHORITY),
    "path-no-slash": malformed(GET, HTTP, path(b"a"), AUTHORITY),
    "path-star-of-get": malformed(GET, HTTP, path(b"*"), AUTHORITY),
    "path-absolute": malformed(GET, HTTP, path(b"http://b.example/"), AUTHORITY),
    "path-space": malformed(GET, HTTP, path(b"/a b"), AUTHORITY),
    "path-line-feed": malformed(GET, HTTP, path(b"/a\nb"), AUTHORITY),
    "path-version": malformed(GET, HTTP, path(b"/ HTTP/1.1\r\nHost: b.example\r\n\r\n"), AUTHORITY),
    "method-space": malformed(b"\x02" + text(b"GET /x HTTP/1.1"), HTTP, PATH, AUTHORITY),
    "method-line-feed": malformed(b"\x02" + text(b"GET\n"), HTTP, PATH, AUTHORITY),
    "method-empty": malformed(b"\x02" + text(b""), HTTP, PATH, AUTHORITY),
    "scheme-empty": malformed(GET, b"\x06" + text(b""), PATH, AUTHORITY),
    "scheme-space": malformed(GET, b"\x06" + text(b"ht tp"), PATH, AUTHORITY),
    "scheme-with-target": malformed(GET, b"\x06" + text(b"http://b.example/?"), PATH, AUTHORITY),
    "authority-none": malformed(GET, HTTP, PATH),
    "authority-empty": malformed(GET, HTTP, PATH, b"\x01" + text(b"")),
    "authority-userinfo": malformed(GET, HTTP, PATH, b"\x01" + text(b"u@a.example")),
    "authority-path": malformed(GET, HTTP, PATH, b"\x01" + text(b"a.example/x")),
    "authority-space": malformed(GET, HTTP, PATH, b"\x01" + text(b"a example")),
    "authority-line-feed": malformed(GET, HTTP, PATH, b"\x01" + text(b"a.example\nx-a: 1")),
    "authority-and-other-host": malformed(GET, HTTP, PATH, AUTHORITY, literal(b"host", b"b.example")),
    "host-twice": malformed(GET, HTTP, PATH, literal(b"host", b"a.example"), literal(b"host", b"a.example")),
    "connect": malformed(b"\x02" + text(b"CONNECT"), AUTHORITY),
    "connect-with-path": malformed(b"\x02" + text(b"CONNECT"), HTTP, PATH, AUTHORITY),
    # A WebSocket (RFC 8441): the origin, which takes none, answers the upgrade with a page (502); nginx refuses it.
    "connect-websocket": Case(
        block(b"\x02" + text(b"CONNECT"), HTTP, PATH, AUTHORITY, literal(b":protocol", b"websocket")), Served(502), *MALFORMED
    ),
    "length-longer": Case(post(HELLO, more=literal(b"content-length", b"6")), *MALFORMED, reaches=0),
    "length-shorter": Case(post(HELLO, more=literal(b"content-length", b"4")), *MALFORMED, reaches=0),
    "length-of-several-frames": Case(post(frame(DATA, 0, ONE, b"hello"), HELLO, more=LENGTH), *MALFORMED),
    "length-without-content": Case(get(LENGTH, method=POST), *MALFORMED, reaches=0),
    "length-no-number": Case(post(HELLO, more=literal(b"content-length", b"5x")), *MALFORMED, reaches=0),
    "length-plus": Case(post(HELLO, more=literal(b"content-length", b"+5")), *MALFORMED, reaches=0),
    "length-two": Case(post(HELLO, more=LENGTH + literal(b"content-length", b"6")), *MALFORMED, reaches=0),
    "length-same-twice": Case(post(HELLO, more=LENGTH * 2), *MALFORMED, Served()),
    "length-and-trailers-short": Case(
        post(frame(DATA, 0, ONE, b"hell"), frame(HEADERS, END_STREAM | END_HEADERS, ONE, fields((b"x-a", b"1"))), more=LENGTH), *MALFORMED, reaches=0,
    ),
    "trailers-without-end": Case(post(frame(DATA, 0, ONE, b"hello"), frame(HEADERS, END_HEADERS, ONE, fields((b"x-a", b"1")))), *MALFORMED, reaches=0),
    # h2 drops them, so that nobody sees any, where RFC 9113, 8.1, wants the request malformed.
    "trailers-with-pseudo": Case(post(frame(DATA, 0, ONE, b"hello"), frame(HEADERS, END_STREAM | END_HEADERS, ONE, GET)), *MALFORMED, Served()),
    "trailers-upper-case": Case(post(frame(HEADERS, END_STREAM | END_HEADERS, ONE, fields((b"X-A", b"1")))), *MALFORMED, reaches=0),
    "trailers-connection": Case(post(frame(HEADERS, END_STREAM | END_HEADERS, ONE, fields((b"connection", b"x-a")))), *MALFORMED, Served()),
    # Floods (10.5).
    "flood-ping": Case(frame(PING, 0, 0, bytes(8)) * 2000, TOO_MUCH),
    "flood-settings": Case(settings((4, 65535)) * 2000, TOO_MUCH),
    "flood-priority": Case(frame(PRIORITY, 0, 9, u32(0) + b"\1") * 2000, TOO_MUCH),
    "flood-unknown": Case(frame(0x42, 0, 0) * 2000, TOO_MUCH),
    "flood-window-update": Case(frame(WINDOW_UPDATE, 0, 0, u32(1)) * 2000, TOO_MUCH),
    "flood-empty-data": Case(post(frame(DATA, 0, ONE) * 2000), TOO_MUCH),
    "flood-padding": Case(post(frame(DATA, PADDED, ONE, b"\0") * 2000), TOO_MUCH),
    "flood-continuation": Case(lambda path: frame(HEADERS, END_STREAM, ONE, GET) + frame(CONTINUATION, 0, ONE) * 2000, TOO_MUCH, reaches=0),
    "flood-continuation-small": Case(
        lambda path: frame(HEADERS, END_STREAM, ONE, GET) + frame(CONTINUATION, 0, ONE, literal(b"x", b"")) * 2000, TOO_MUCH, Ended(*ANY), reaches=0,
    ),
    "flood-reset": Case(opened_and_reset(1000), TOO_MUCH),
    "flood-malformed": Case(
        lambda _: b"".join(frame(HEADERS, END_STREAM | END_HEADERS, stream, literal(b"x", b"")) for stream in range(1, 2000, 2)), TOO_MUCH, reaches=0,
    ),
    "flood-window-overflow": Case(
        lambda path: b"".join(post(frame(WINDOW_UPDATE, 0, stream, u32((1 << 31) - 1)), stream=stream)(path) for stream in range(1, 2000, 2)), TOO_MUCH,
    ),
}  # fmt: skip
