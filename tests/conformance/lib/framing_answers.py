"""Answers of an HTTP/1.1 origin, and what may reach the client of each by RFC 9112 and 9110. %T stands for the exchange's
token."""

import dataclasses

# It is no answer, or not all of one: 502, or what is visibly cut.
BROKEN = "broken"


@dataclasses.dataclass
class Whole:
    """An answer that arrives like this."""

    content: bytes = b"%T"
    status: int = 200
    fields: dict = dataclasses.field(default_factory=dict)
    # They may be dropped.
    trailers: list = None


class Case:
    """An answer, what the origin does `then` ("keep" its connection, "close" or "reset" it), and what is right. What it says
    beyond its `end` comes with its last piece: later it could be the next answer, for all that anybody can tell."""

    def __init__(self, raw, *outcomes, then="keep", method="GET", to_old_client=False, beyond=b""):
        self.raw, self.outcomes, self.then, self.method = raw + beyond, outcomes, then, method
        self.end = len(raw)
        self.to_old_client = to_old_client


OK = b"HTTP/1.1 200 OK\r\n"
EIGHT = b"Content-Length: 8\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
BODY = b"8\r\n%T\r\n0\r\n\r\n"


def answer(fields=b"", content=b"%T", line=b"HTTP/1.1 200 OK"):
    return line + b"\r\n" + fields + b"\r\n" + content


def chunks(content, fields=b""):
    return answer(CHUNKED + fields, content)


def has(**fields):
    return {name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in fields.items()}


STRAY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

ANSWERS = {
    # As it should be.
    "length": Case(answer(EIGHT), Whole()),
    "length-0": Case(answer(b"Content-Length: 0\r\n", b""), Whole(b"")),
    "length-spaces": Case(answer(b"Content-Length: \t8 \t\r\n"), Whole()),
    "length-zeros": Case(answer(b"Content-Length: 0008\r\n"), Whole(), BROKEN),
    "length-then-close": Case(answer(EIGHT + b"Connection: close\r\n"), Whole(fields=has(content_length=b"8")), then="close"),
    "length-70000": Case(answer(b"Content-Length: 70000\r\n", b"b" * 70_000), Whole(b"b" * 70_000)),
    "chunked": Case(chunks(BODY), Whole()),
    "chunked-many": Case(chunks(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n"), Whole(b"abc")),
    "chunked-empty": Case(chunks(b"0\r\n\r\n"), Whole(b"")),
    "chunked-case": Case(chunks(b"A\r\n0123456789\r\n00\r\n\r\n").replace(b"chunked", b"Chunked"), Whole(b"0123456789")),
    "chunked-70000": Case(chunks(b"11170\r\n" + b"b" * 70_000 + b"\r\n0\r\n\r\n"), Whole(b"b" * 70_000)),
    "extension": Case(chunks(b'8;a="b;c"\r\n%T\r\n0;d\r\n\r\n'), Whole()),
    "trailer": Case(chunks(b"8\r\n%T\r\n0\r\nX-A: 1\r\n\r\n"), Whole(trailers=[("x-a", b"1")])),
    "trailer-length": Case(chunks(b"8\r\n%T\r\n0\r\nContent-Length: 3\r\n\r\n"), Whole(trailers=[]), BROKEN),
    "until-close": Case(answer(b"Connection: close\r\n"), Whole(), then="close"),
    "until-close-not-said": Case(answer(), Whole(), then="close"),
    "until-close-empty": Case(answer(content=b""), Whole(b""), then="close"),
    "1.0": Case(answer(line=b"HTTP/1.0 200 OK"), Whole(), then="close"),
    "1.0-length": Case(answer(EIGHT, line=b"HTTP/1.0 200 OK"), Whole(), then="close"),
    "1.0-keep-alive": Case(answer(EIGHT + b"Connection: keep-alive\r\n", line=b"HTTP/1.0 200 OK"), Whole()),
    "empty-line-first": Case(b"\r\n" + answer(EIGHT), Whole(), BROKEN),
    "no-reason": Case(answer(EIGHT, line=b"HTTP/1.1 200 "), Whole()),
    "no-reason-and-space": Case(answer(EIGHT, line=b"HTTP/1.1 200"), Whole(), BROKEN),
    "reason-long": Case(answer(EIGHT, line=b"HTTP/1.1 200 Not quite (\xfc) all"), Whole()),
    "fields": Case(
        answer(EIGHT + b"X-A:1\r\nX-B: \t a, b \t\r\nX-C: \xfc\r\nX-D:\r\n"), Whole(fields=has(x_a=b"1", x_b=b"a, b", x_c=b"\xfc")),
    ),
    "cookies": Case(answer(EIGHT + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n"), Whole(fields=has(set_cookie=[b"a=1", b"b=2"]))),
    "fields-90": Case(answer(EIGHT + b"X-A: 1\r\n" * 90), Whole(fields=has(x_a=[b"1"] * 90)), BROKEN),
    "this-hop": Case(
        answer(EIGHT + b"Connection: X-A\r\nKeep-Alive: timeout=9\r\nX-A: 1\r\nX-B: 2\r\n"),
        Whole(fields=has(keep_alive=[], x_a=[], x_b=b"2")),
    ),
    "404": Case(answer(EIGHT, line=b"HTTP/1.1 404 Not Found"), Whole(status=404)),
    "500": Case(answer(EIGHT, line=b"HTTP/1.1 500 Internal Server Error"), Whole(status=500)),
    "status-299": Case(answer(EIGHT, line=b"HTTP/1.1 299 Fine"), Whole(status=299)),
    "status-599": Case(answer(EIGHT, line=b"HTTP/1.1 599 So so"), Whole(status=599)),
    # Without content (RFC 9112, 6.3).
    "204": Case(answer(content=b"", line=b"HTTP/1.1 204 No Content"), Whole(b"", 204)),
    "204-length": Case(answer(b"Content-Length: 0\r\n", b"", b"HTTP/1.1 204 No Content"), Whole(b"", 204), BROKEN),
    "304": Case(answer(b'ETag: "a"\r\n', b"", b"HTTP/1.1 304 Not Modified"), Whole(b"", 304, has(etag=b'"a"'))),
    "304-length": Case(answer(EIGHT, b"", b"HTTP/1.1 304 Not Modified"), Whole(b"", 304)),
    "304-chunked": Case(answer(CHUNKED, b"", b"HTTP/1.1 304 Not Modified"), Whole(b"", 304)),
    "head": Case(answer(EIGHT, b""), Whole(b"", fields=has(content_length=b"8")), method="HEAD"),
    "head-chunked": Case(answer(CHUNKED, b""), Whole(b""), method="HEAD"),
    "head-nothing-said": Case(answer(content=b""), Whole(b""), method="HEAD"),
    # Interim answers (RFC 9110, 15.2).
    "100": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(EIGHT), Whole()),
    "103": Case(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(EIGHT), Whole()),
    "102-twice": Case(b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + answer(EIGHT), Whole()),
    "199": Case(b"HTTP/1.1 199 Hm\r\n\r\n" + answer(EIGHT), Whole(), BROKEN),
    "103-length": Case(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n" + answer(EIGHT), Whole(), BROKEN),
    "101-unasked": Case(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: irc\r\nConnection: upgrade\r\n\r\n", BROKEN, then="close"),
    # Cut.
    "cut-no-answer": Case(b"", BROKEN, then="close"),
    "cut-reset": Case(b"", BROKEN, then="reset"),
    "cut-in-line": Case(b"HTTP/1.1 20", BROKEN, then="close"),
    "cut-in-head": Case(OK + b"Content-Le", BROKEN, then="close"),
    "cut-before-head-end": Case(OK + EIGHT, BROKEN, then="close"),
    "cut-in-length": Case(answer(b"Content-Length: 20\r\n"), BROKEN, then="close"),
    "cut-at-length": Case(answer(EIGHT, b""), BROKEN, then="close"),
    "cut-in-size": Case(chunks(b"8\r\n%T\r\n4"), BROKEN, then="close"),
    "cut-in-chunk": Case(chunks(b"8\r\n%T\r\n4\r\nab"), BROKEN, then="close"),
    "cut-between-chunks": Case(chunks(b"8\r\n%T\r\n"), BROKEN, then="close"),
    "cut-before-chunks": Case(chunks(b""), BROKEN, then="close"),
    "cut-before-end": Case(chunks(b"8\r\n%T\r\n0\r\n"), BROKEN, then="close"),
    "cut-in-trailers": Case(chunks(b"8\r\n%T\r\n0\r\nX-A: 1\r\n"), BROKEN, then="close"),
    "cut-until-close": Case(answer(), BROKEN, then="reset"),
    "cut-length-by-reset": Case(answer(b"Content-Length: 20\r\n"), BROKEN, then="reset"),
    "cut-chunked-by-reset": Case(chunks(b"8\r\n%T\r\n"), BROKEN, then="reset"),
    # To a client of HTTP/1.0, which knows no chunks.
    "old-length": Case(answer(EIGHT), Whole(fields=has(transfer_encoding=[])), to_old_client=True),
    "old-chunked": Case(chunks(BODY), Whole(fields=has(transfer_encoding=[])), to_old_client=True),
    "old-trailer": Case(chunks(b"8\r\n%T\r\n0\r\nX-A: 1\r\n\r\n"), Whole(fields=has(transfer_encoding=[])), to_old_client=True),
    "old-until-close": Case(answer(), Whole(), then="close", to_old_client=True),
    "old-cut-in-length": Case(answer(b"Content-Length: 20\r\n"), BROKEN, then="close", to_old_client=True),
    "old-cut-in-chunks": Case(chunks(b"8\r\n%T\r\n"), BROKEN, then="close", to_old_client=True),
    "old-cut-until-close": Case(answer(), BROKEN, then="reset", to_old_client=True),
    # More than was said: nobody else gets it.
    "more-than-length": Case(answer(EIGHT), Whole(), beyond=STRAY),
    "more-than-chunks": Case(chunks(BODY), Whole(), beyond=STRAY),
    "more-than-204": Case(answer(content=b"", line=b"HTTP/1.1 204 No Content"), Whole(b"", 204), beyond=STRAY),
    "more-than-204-length": Case(answer(EIGHT, b"", b"HTTP/1.1 204 No Content"), Whole(b"", 204), BROKEN, beyond=b"%T"),
    "more-than-304": Case(answer(EIGHT, b"", b"HTTP/1.1 304 Not Modified"), Whole(b"", 304), beyond=b"%T"),
    "more-than-head": Case(answer(EIGHT, b""), Whole(b"", fields=has(content_length=b"8")), method="HEAD", beyond=b"%T"),
    "more-than-head-chunked": Case(chunks(b""), Whole(b""), method="HEAD", beyond=BODY),
    # Lengths that are none (RFC 9112, 6.3).
    "length-same-twice": Case(answer(EIGHT * 2), Whole(fields=has(content_length=b"8")), BROKEN),
    "length-same-list": Case(answer(b"Content-Length: 8, 8\r\n"), Whole(fields=has(content_length=b"8")), BROKEN),
    "length-two": Case(answer(EIGHT + b"Content-Length: 3\r\n"), BROKEN),
    "length-two-list": Case(answer(b"Content-Length: 8, 3\r\n"), BROKEN),
    "length-plus": Case(answer(b"Content-Length: +8\r\n"), BROKEN),
    "length-minus": Case(answer(b"Content-Length: -8\r\n"), BROKEN),
    "length-hexadecimal": Case(answer(b"Content-Length: 0x8\r\n"), BROKEN),
    "length-fraction": Case(answer(b"Content-Length: 8.0\r\n"), BROKEN),
    "length-word": Case(answer(b"Content-Length: eight\r\n"), BROKEN),
    "length-empty": Case(answer(b"Content-Length:\r\n"), BROKEN),
    "length-two-numbers": Case(answer(b"Content-Length: 8 8\r\n"), BROKEN),
    "length-2-to-the-64-and-8": Case(answer(b"Content-Length: 18446744073709551624\r\n"), BROKEN),
    "length-nul": Case(answer(b"Content-Length: 8\0\r\n"), BROKEN),
    # Codings.
    "length-and-chunked": Case(answer(EIGHT + CHUNKED, BODY), Whole(), BROKEN),
    "chunked-and-length": Case(answer(CHUNKED + b"Content-Length: 3\r\n", BODY), Whole(), BROKEN),
    "1.0-chunked": Case(answer(CHUNKED, BODY, b"HTTP/1.0 200 OK"), BROKEN, Whole(), then="close"),
    "coding-before": Case(answer(b"Transfer-Encoding: gzip, chunked\r\n", BODY), BROKEN),
    "coding-after": Case(answer(b"Transfer-Encoding: chunked, gzip\r\n", BODY), BROKEN),
    "coding-other": Case(answer(b"Transfer-Encoding: gzip\r\n"), BROKEN, then="close"),
    "coding-twice": Case(answer(CHUNKED * 2, BODY), BROKEN),
    "coding-like-chunked": Case(answer(b"Transfer-Encoding: xchunked\r\n", BODY), BROKEN, then="close"),
    "coding-vertical-tab": Case(answer(b"Transfer-Encoding: \x0bchunked\r\n", BODY), BROKEN, then="close"),
    "coding-parameter": Case(answer(b"Transfer-Encoding: chunked;q=1\r\n", BODY), BROKEN, then="close"),
    "coding-identity": Case(answer(b"Transfer-Encoding: identity\r\n" + EIGHT), Whole(fields=has(transfer_encoding=[])), BROKEN),
    # Chunks that are none.
    "size-no-digit": Case(chunks(b"g\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-empty": Case(chunks(b"\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-prefix": Case(chunks(b"0x8\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-minus": Case(chunks(b"-8\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-plus": Case(chunks(b"+8\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-line-feed": Case(chunks(b"8\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-space-before": Case(chunks(b" 8\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-space-after": Case(chunks(b"8 \r\n%T\r\n0\r\n\r\n"), BROKEN, Whole()),
    "size-2-to-the-64-and-8": Case(chunks(b"10000000000000008\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-too-small": Case(chunks(b"7\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "size-too-large": Case(chunks(b"9\r\n%T\r\n0\r\n\r\n"), BROKEN, then="close"),
    "extension-line-feed": Case(chunks(b"8;a\nb\r\n%T\r\n0\r\n\r\n"), BROKEN),
    "data-line-feed": Case(chunks(b"8\r\n%T\n0\r\n\r\n"), BROKEN),
    "trailer-no-colon": Case(chunks(b"8\r\n%T\r\n0\r\nX-A\r\n\r\n"), BROKEN, Whole(trailers=[])),
    "trailer-folded": Case(chunks(b"8\r\n%T\r\n0\r\nX-A: 1\r\n 2\r\n\r\n"), BROKEN, Whole(trailers=[("x-a", b"1 2")])),
    "trailer-nul": Case(chunks(b"8\r\n%T\r\n0\r\nX-A: 1\0\r\n\r\n"), BROKEN, Whole(trailers=[])),
    # Heads that are none, or are to be mended (RFC 9112, 5.1 and 5.2).
    "space-before-colon": Case(answer(b"Content-Length : 8\r\n"), BROKEN, Whole()),
    "folded": Case(answer(EIGHT + b"X-A: 1\r\n 2\r\n"), BROKEN, Whole(fields=has(x_a=b"1 2"))),
    "folded-length": Case(answer(EIGHT + b"X-A: 1\r\n Content-Length: 3\r\n"), BROKEN, Whole()),
    "folded-first-line": Case(answer(b" X-A: 1\r\n" + EIGHT), BROKEN, Whole(fields=has(x_a=[]))),
    "line-feeds": Case(answer(EIGHT).replace(b"\r", b""), BROKEN, Whole()),
    "line-feed-in-head": Case(answer(EIGHT[:-2] + b"\nX-A: 1\r\n"), BROKEN, Whole(fields=has(x_a=b"1"))),
    "carriage-return-in-value": Case(answer(EIGHT + b"X-A: 1\r2\r\n"), BROKEN, Whole(fields=has(x_a=b"1 2"))),
    "carriage-return-in-reason": Case(answer(EIGHT, line=b"HTTP/1.1 200 O\rK"), BROKEN, Whole()),
    "field-nul": Case(answer(EIGHT + b"X-A: 1\0002\r\n"), BROKEN, Whole(fields=has(x_a=b"1 2"))),
    "field-no-colon": Case(answer(EIGHT + b"X-A\r\n"), BROKEN, Whole(fields=has(x_a=[]))),
    "field-name-empty": Case(answer(EIGHT + b": 1\r\n"), BROKEN, Whole()),
    "field-name-space": Case(answer(EIGHT + b"X A: 1\r\n"), BROKEN, Whole()),
    "field-name-obs-text": Case(answer(EIGHT + b"X\xff: 1\r\n"), BROKEN, Whole()),
    "status-20": Case(answer(EIGHT, line=b"HTTP/1.1 20 OK"), BROKEN),
    "status-2000": Case(answer(EIGHT, line=b"HTTP/1.1 2000 OK"), BROKEN),
    "status-099": Case(answer(EIGHT, line=b"HTTP/1.1 099 OK"), BROKEN),
    "status-000": Case(answer(EIGHT, line=b"HTTP/1.1 000 OK"), BROKEN),
    "status-999": Case(answer(EIGHT, line=b"HTTP/1.1 999 OK"), BROKEN, Whole(status=999)),
    "status-word": Case(answer(EIGHT, line=b"HTTP/1.1 abc OK"), BROKEN),
    "status-none": Case(answer(EIGHT, line=b"HTTP/1.1"), BROKEN),
    "status-minus": Case(answer(EIGHT, line=b"HTTP/1.1 -20 OK"), BROKEN),
    "status-spaces": Case(answer(EIGHT, line=b"HTTP/1.1  200 OK"), BROKEN, Whole()),
    "version-2.0": Case(answer(EIGHT, line=b"HTTP/2.0 200 OK"), BROKEN),
    "version-1.2": Case(answer(EIGHT, line=b"HTTP/1.2 200 OK"), BROKEN, Whole()),
    "version-0.9": Case(b"%T", BROKEN, then="close"),
    "version-lower-case": Case(answer(EIGHT, line=b"http/1.1 200 OK"), BROKEN),
    "version-other": Case(answer(EIGHT, line=b"ICY 200 OK"), BROKEN, then="close"),
    "noise": Case(bytes(range(128, 192)) + b"\r\n\r\n", BROKEN, then="close"),
    "too-long-field": Case(answer(EIGHT + b"X-A: " + b"a" * 400_000 + b"\r\n"), BROKEN),
    "too-many-fields": Case(answer(EIGHT + b"X-A: 1\r\n" * 3000), BROKEN),
}  # fmt: skip
