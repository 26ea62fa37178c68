"""HTTP/1.1 requests, and what may become of each by RFC 9112 and 9110. %T stands for the exchange's token."""

import dataclasses

# Answered by 400 to 499, 501 or 505, and nothing after it is: no whole request reaches the origin.
REFUSED = "refused"
# The same, but what follows it on the connection may be served: where it ends is beyond doubt.
NOT_SERVED = "not served"
# It ends amid itself: no whole request reaches the origin, and no success the client.
CUT = "cut"


@dataclasses.dataclass
class Passed:
    """A request that reaches the origin like this, and whose answer comes back."""

    method: str = "GET"
    target: bytes = b"/%T"
    content: bytes = b""
    # Values by name, in lower case; none for fields that go no further.
    fields: dict = dataclasses.field(default_factory=dict)
    trailers: list = None
    tunnelled: bytes = None
    # Nothing is served after it.
    closes: bool = False


@dataclasses.dataclass
class Answered:
    """A request that is answered so, by whoever; the origin may have seen it."""

    statuses: tuple


HOST = b"Host: a.example\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FIVE = b"Content-Length: 5\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def get(fields=b"", line=b"GET /%T HTTP/1.1", host=HOST):
    return line + b"\r\n" + host + fields + b"\r\n"


def post(fields=b"", content=b"", line=b"POST /%T HTTP/1.1"):
    return get(fields, line) + content


def chunks(content, fields=b""):
    return post(CHUNKED + fields, content)


def has(**fields):
    """Fields as they reach the origin."""
    return {name.replace("_", "-"): value if isinstance(value, list) else [value] for name, value in fields.items()}


def upload(**more):
    return Passed("POST", content=b"hello", **more)


PLAIN, POSTED = Passed(), upload()
SOCKET = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
UPGRADE = b"Connection: Upgrade\r\n" + SOCKET
NEXT = b"GET /%T-next HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"

# Name: bytes, and each list of outcomes that is right.
REQUESTS = {
    # Heads that are as they should be.
    "get": (get(), [PLAIN]),
    "empty-line-first": (b"\r\n" + get(), [PLAIN]),
    "empty-lines-first": (b"\r\n\r\n" + get(), [PLAIN], [REFUSED]),
    "field-plain": (get(b"X-A: value\r\n"), [Passed(fields=has(x_a=b"value"))]),
    "field-no-space": (get(b"X-A:value\r\n"), [Passed(fields=has(x_a=b"value"))]),
    "field-spaces": (get(b"X-A: \t value, b \t \r\n"), [Passed(fields=has(x_a=b"value, b"))]),
    "field-empty": (get(b"X-A:\r\n"), [Passed(fields=has(x_a=b""))], [Passed()]),
    "field-tab-inside": (get(b"X-A: a\tb\r\n"), [Passed(fields=has(x_a=b"a\tb"))]),
    "field-obs-text": (get(b"X-A: \xc3\xbc\xff\r\n"), [Passed(fields=has(x_a=b"\xc3\xbc\xff"))], [REFUSED]),
    "field-twice": (get(b"X-A: 1\r\nX-A: 2\r\n"), [Passed(fields=has(x_a=[b"1", b"2"]))], [Passed(fields=has(x_a=b"1, 2"))]),
    "field-name-case": (get(b"x-A: 1\r\n"), [Passed(fields=has(x_a=b"1"))]),
    "field-name-token": (get(b"X!#$%&'*+-.^_`|~9: 1\r\n"), [Passed(fields={"x!#$%&'*+-.^_`|~9": [b"1"]})], [Passed()]),
    "field-quotes": (get(b'X-A: "a\\"b", (c)\r\n'), [Passed(fields=has(x_a=b'"a\\"b", (c)'))]),
    "fields-90": (get(b"X-A: 1\r\n" * 90), [Passed(fields=has(x_a=[b"1"] * 90))]),
    "field-6000": (get(b"X-A: " + b"a" * 6000 + b"\r\n"), [Passed(fields=has(x_a=b"a" * 6000))]),
    "host-first": (b"GET /%T HTTP/1.1\r\nX-A: 1\r\nHost: a.example\r\n\r\n", [PLAIN]),
    # Targets and methods.
    "target-query": (get(line=b"GET /%T?a=b&c=%20d HTTP/1.1"), [Passed(target=b"/%T?a=b&c=%20d")]),
    "target-empty-query": (get(line=b"GET /%T? HTTP/1.1"), [Passed(target=b"/%T?")]),
    "target-encoded": (get(line=b"GET /%T/%41%7e HTTP/1.1"), [Passed(target=b"/%T/%41%7e")], [Passed(target=b"/%T/A~")]),
    "target-delimiters": (get(line=b"GET /%T/!$&'()*+,=:@ HTTP/1.1"), [Passed(target=b"/%T/!$&'()*+,=:@")]),
    "target-long": (get(line=b"GET /%T/" + b"a" * 4000 + b" HTTP/1.1"), [Passed(target=b"/%T/" + b"a" * 4000)]),
    "target-absolute": (get(line=b"GET http://a.example/%T HTTP/1.1"), [Passed(fields=has(host=b"a.example"))]),
    "target-absolute-query": (get(line=b"GET http://a.example/%T?q HTTP/1.1"), [Passed(target=b"/%T?q")]),
    "target-absolute-scheme-case": (get(line=b"GET HTTP://a.example/%T HTTP/1.1"), [PLAIN], [REFUSED]),
    "target-absolute-other-host": (
        get(line=b"GET http://b.example/%T HTTP/1.1"), [Passed(fields=has(host=b"b.example"))], [REFUSED], [NOT_SERVED],
    ),
    "target-absolute-no-host-field": (get(line=b"GET http://a.example/%T HTTP/1.1", host=b""), [REFUSED], [NOT_SERVED]),
    "target-absolute-no-host": (get(line=b"GET http:///%T HTTP/1.1"), [REFUSED], [NOT_SERVED]),
    "target-absolute-userinfo": (get(line=b"GET http://u@a.example/%T HTTP/1.1"), [PLAIN], [REFUSED], [NOT_SERVED]),
    "target-no-slash": (get(line=b"GET %T HTTP/1.1"), [REFUSED], [NOT_SERVED]),
    "target-fragment": (get(line=b"GET /%T#f HTTP/1.1"), [PLAIN], [REFUSED]),
    "target-nul": (get(line=b"GET /%T\0 HTTP/1.1"), [REFUSED]),
    "target-control": (get(line=b"GET /%T\x7f HTTP/1.1"), [REFUSED]),
    "target-space": (get(line=b"GET /%T a HTTP/1.1"), [REFUSED]),
    "target-none": (get(b"X-T: %T\r\n", line=b"GET HTTP/1.1"), [REFUSED]),
    "target-empty": (get(b"X-T: %T\r\n", line=b"GET  HTTP/1.1"), [REFUSED]),
    "target-star-of-get": (get(b"X-T: %T\r\n", line=b"GET * HTTP/1.1"), [REFUSED], [NOT_SERVED]),
    "target-authority-of-get": (get(b"X-T: %T\r\n", line=b"GET a.example:80 HTTP/1.1"), [REFUSED], [NOT_SERVED]),
    "options-of-all": (
        get(b"X-T: %T\r\n", line=b"OPTIONS * HTTP/1.1"), [Answered((200, 204))], [Passed("OPTIONS", b"*")], [REFUSED],
    ),
    "options": (get(line=b"OPTIONS /%T HTTP/1.1"), [Passed("OPTIONS")]),
    "trace": (get(line=b"TRACE /%T HTTP/1.1"), [Passed("TRACE")], [Answered((405, 501))], [REFUSED]),
    "connect": (get(b"X-T: %T\r\n", line=b"CONNECT a.example:443 HTTP/1.1", host=b"Host: a.example:443\r\n"), [REFUSED], [NOT_SERVED]),
    "head": (get(line=b"HEAD /%T HTTP/1.1"), [Passed("HEAD")]),
    "delete": (get(line=b"DELETE /%T HTTP/1.1"), [Passed("DELETE")]),
    "method-extension": (get(line=b"PURGE /%T HTTP/1.1"), [Passed("PURGE")], [Answered((405, 501))], [REFUSED]),
    "method-lower-case": (get(line=b"get /%T HTTP/1.1"), [Passed("get")], [Answered((405, 501))], [REFUSED]),
    "method-no-token": (get(line=b"G@T /%T HTTP/1.1"), [REFUSED]),
    "method-empty": (get(line=b" /%T HTTP/1.1"), [REFUSED]),
    # Request lines and versions.
    "line-two-spaces": (get(line=b"GET  /%T HTTP/1.1"), [REFUSED], [PLAIN]),
    "line-two-spaces-later": (get(line=b"GET /%T  HTTP/1.1"), [REFUSED], [PLAIN]),
    "line-tab": (get(line=b"GET\t/%T HTTP/1.1"), [REFUSED], [PLAIN]),
    "line-space-first": (get(line=b" GET /%T HTTP/1.1"), [REFUSED], [PLAIN]),
    "line-space-last": (get(line=b"GET /%T HTTP/1.1 "), [REFUSED], [PLAIN]),
    "line-carriage-return": (get(line=b"GET /%T\rHTTP/1.1"), [REFUSED], [PLAIN]),
    "version-none": (b"GET /%T\r\n\r\n", [REFUSED]),
    "version-0.9": (get(line=b"GET /%T HTTP/0.9"), [REFUSED]),
    "version-1.2": (get(line=b"GET /%T HTTP/1.2"), [PLAIN], [REFUSED]),
    "version-2.0": (get(line=b"GET /%T HTTP/2.0"), [REFUSED]),
    "version-1.10": (get(line=b"GET /%T HTTP/1.10"), [REFUSED]),
    "version-11": (get(line=b"GET /%T HTTP/11"), [REFUSED]),
    "version-lower-case": (get(line=b"GET /%T http/1.1"), [REFUSED]),
    "version-other": (get(line=b"GET /%T HTCPCP/1.0"), [REFUSED]),
    "version-space": (get(line=b"GET /%T HTTP/ 1.1"), [REFUSED]),
    "1.0": (get(line=b"GET /%T HTTP/1.0"), [Passed(closes=True)]),
    "1.0-keep-alive": (get(b"Connection: keep-alive\r\n", line=b"GET /%T HTTP/1.0"), [PLAIN], [Passed(closes=True)]),
    "1.0-no-host": (get(line=b"GET /%T HTTP/1.0", host=b""), [Passed(closes=True)], [REFUSED], [NOT_SERVED]),
    "1.0-content": (post(FIVE, b"hello", line=b"POST /%T HTTP/1.0"), [upload(closes=True)]),
    "1.0-chunked": (post(CHUNKED, HELLO, line=b"POST /%T HTTP/1.0"), [REFUSED], [upload(closes=True)]),
    "1.0-upgrade": (get(UPGRADE, line=b"GET /%T HTTP/1.0"), [Passed(fields=has(upgrade=[]), closes=True)]),
    # Hosts.
    "host-port": (get(host=b"Host: a.example:8080\r\n"), [Passed(fields=has(host=b"a.example:8080"))]),
    "host-upper-case": (get(host=b"HOST: A.Example\r\n"), [Passed(fields=has(host=b"A.Example"))], [Passed(fields=has(host=b"a.example"))]),
    "host-final-dot": (get(host=b"Host: a.example.\r\n"), [Passed(fields=has(host=b"a.example."))], [Passed(fields=has(host=b"a.example"))]),
    "host-empty-port": (get(host=b"Host: a.example:\r\n"), [PLAIN], [REFUSED]),
    "host-ipv4": (get(host=b"Host: 192.0.2.1\r\n"), [Passed(fields=has(host=b"192.0.2.1"))]),
    "host-ipv6": (get(host=b"Host: [2001:db8::1]\r\n"), [Passed(fields=has(host=b"[2001:db8::1]"))]),
    "host-ipv6-port": (get(host=b"Host: [2001:db8::1]:80\r\n"), [Passed(fields=has(host=b"[2001:db8::1]:80"))]),
    "host-ipv6-open": (get(host=b"Host: [2001:db8::1\r\n"), [REFUSED], [NOT_SERVED]),
    "host-ipv6-bare": (get(host=b"Host: 2001:db8::1\r\n"), [REFUSED], [NOT_SERVED]),
    "host-none": (get(host=b""), [REFUSED], [NOT_SERVED]),
    "host-empty": (get(host=b"Host:\r\n"), [REFUSED], [NOT_SERVED]),
    "host-twice": (get(host=HOST * 2), [REFUSED], [NOT_SERVED]),
    "host-two": (get(host=HOST + b"Host: b.example\r\n"), [REFUSED], [NOT_SERVED]),
    "host-list": (get(host=b"Host: a.example, b.example\r\n"), [REFUSED], [NOT_SERVED]),
    "host-userinfo": (get(host=b"Host: u@a.example\r\n"), [REFUSED], [NOT_SERVED]),
    "host-path": (get(host=b"Host: a.example/x\r\n"), [REFUSED], [NOT_SERVED]),
    "host-space": (get(host=b"Host: a example\r\n"), [REFUSED], [NOT_SERVED]),
    "host-port-no-number": (get(host=b"Host: a.example:8o\r\n"), [REFUSED], [NOT_SERVED]),
    "host-two-ports": (get(host=b"Host: a.example:80:80\r\n"), [REFUSED], [NOT_SERVED]),
    "host-nul": (get(host=b"Host: a\0.example\r\n"), [REFUSED], [NOT_SERVED]),
    "host-space-before-colon": (get(host=b"Host : a.example\r\n"), [REFUSED]),
    # Lines (RFC 9112, 2.2 and 5).
    "line-feeds": (get().replace(b"\r", b""), [PLAIN], [REFUSED]),
    "line-feed-after-request-line": (get().replace(b"\r", b"", 1), [PLAIN], [REFUSED]),
    "line-feed-after-field": (get(b"X-A: 1\nX-B: 2\r\n"), [Passed(fields=has(x_a=b"1", x_b=b"2"))], [REFUSED]),
    "line-feed-at-end": (get()[:-2] + b"\n", [PLAIN], [REFUSED]),
    "carriage-return-in-value": (get(b"X-A: 1\r2\r\n"), [Passed(fields=has(x_a=b"1 2"))], [REFUSED]),
    "carriage-return-hides-length": (post(b"X-A: 1\rContent-Length: 5\r\n"), [REFUSED], [Passed("POST")]),
    "carriage-returns-two": (get(b"X-A: 1\r\r\n"), [Passed(fields=has(x_a=b"1"))], [REFUSED]),
    "carriage-returns-only": (get().replace(b"\n", b""), [CUT], [REFUSED]),
    "field-nul": (get(b"X-A: 1\0002\r\n"), [Passed(fields=has(x_a=b"1 2"))], [REFUSED]),
    "field-control": (get(b"X-A: 1\x012\r\n"), [REFUSED], [PLAIN]),
    "field-delete": (get(b"X-A: 1\x7f2\r\n"), [REFUSED], [PLAIN]),
    "field-vertical-tab": (get(b"X-A: 1\x0b2\r\n"), [REFUSED], [PLAIN]),
    "field-name-space-before-colon": (get(b"X-A : 1\r\n"), [REFUSED]),
    "field-name-tab-before-colon": (get(b"X-A\t: 1\r\n"), [REFUSED]),
    "field-name-space": (get(b"X A: 1\r\n"), [REFUSED]),
    "field-name-empty": (get(b": 1\r\n"), [REFUSED]),
    "field-name-parenthesis": (get(b"X(A): 1\r\n"), [REFUSED], [Passed(fields={"x(a)": []})]),
    "field-name-obs-text": (get(b"X\xff: 1\r\n"), [REFUSED], [Passed(fields={})]),
    "field-name-nul": (get(b"X\0A: 1\r\n"), [REFUSED]),
    "field-no-colon": (get(b"X-A\r\n"), [REFUSED]),
    "folded": (get(b"X-A: 1\r\n 2\r\n"), [REFUSED], [Passed(fields=has(x_a=b"1 2"))]),
    "folded-tab": (get(b"X-A: 1\r\n\t2\r\n"), [REFUSED], [Passed(fields=has(x_a=b"1 2"))], [Passed(fields=has(x_a=b"1\t2"))]),
    "folded-length": (post(b"X-A: 1\r\n Content-Length: 5\r\n"), [REFUSED], [Passed("POST")]),
    "folded-coding": (post(b"Transfer-Encoding:\r\n chunked\r\n", HELLO), [REFUSED], [POSTED]),
    "folded-first-line": (b"GET /%T HTTP/1.1\r\n X-A: 1\r\nHost: a.example\r\n\r\n", [REFUSED], [Passed(fields=has(x_a=[]))]),
    "too-many-fields": (get(b"X-A: 1\r\n" * 3000), [REFUSED]),
    "too-long-field": (get(b"X-A: " + b"a" * 300_000 + b"\r\n"), [REFUSED]),
    "too-long-target": (get(line=b"GET /%T" + b"a" * 100_000 + b" HTTP/1.1"), [REFUSED]),
    "cut-in-head": (get()[:-4], [CUT], [REFUSED]),
    "noise": (bytes(range(128, 192)) + b"\r\n\r\n", [REFUSED]),
    "tls": (b"\x16\x03\x01\0\x2e\x01\0\0\x2a\x03\x03" + bytes(32) + b"\0\0\x02\x13\x01\x01\0\r\n\r\n", [REFUSED]),
    # Content by length.
    "length": (post(FIVE, b"hello"), [POSTED]),
    "length-0": (post(b"Content-Length: 0\r\n"), [Passed("POST")]),
    "length-none": (post(), [Passed("POST")]),
    "length-zeros": (post(b"Content-Length: 005\r\n", b"hello"), [POSTED], [REFUSED]),
    "length-spaces": (post(b"Content-Length: \t5 \t\r\n", b"hello"), [POSTED]),
    "length-of-get": (post(FIVE, b"hello", line=b"GET /%T HTTP/1.1"), [Passed(content=b"hello")]),
    "length-of-delete": (post(FIVE, b"hello", line=b"DELETE /%T HTTP/1.1"), [Passed("DELETE", content=b"hello")]),
    "length-of-put": (post(FIVE, b"\0\r\n\r\n", line=b"PUT /%T HTTP/1.1"), [Passed("PUT", content=b"\0\r\n\r\n")]),
    "length-of-head": (post(FIVE, b"hello", line=b"HEAD /%T HTTP/1.1"), [Passed("HEAD", content=b"hello")]),
    "length-content-like-a-request": (post(b"Content-Length: %d\r\n" % (len(NEXT) + 6), NEXT), [Passed("POST", content=NEXT)]),
    "length-70000": (post(b"Content-Length: 70000\r\n", b"b" * 70_000), [Passed("POST", content=b"b" * 70_000)]),
    "length-same-twice": (post(FIVE * 2, b"hello"), [REFUSED], [POSTED]),
    "length-same-list": (post(b"Content-Length: 5, 5\r\n", b"hello"), [REFUSED], [POSTED]),
    "length-two": (post(FIVE + b"Content-Length: 6\r\n", b"hello!"), [REFUSED]),
    "length-two-list": (post(b"Content-Length: 5, 6\r\n", b"hello!"), [REFUSED]),
    "length-two-with-0": (post(b"Content-Length: 0\r\n" + FIVE, b"hello"), [REFUSED]),
    "length-plus": (post(b"Content-Length: +5\r\n", b"hello"), [REFUSED]),
    "length-minus": (post(b"Content-Length: -5\r\n", b"hello"), [REFUSED]),
    "length-minus-0": (post(b"Content-Length: -0\r\n"), [REFUSED]),
    "length-hexadecimal": (post(b"Content-Length: 0x5\r\n", b"hello"), [REFUSED]),
    "length-fraction": (post(b"Content-Length: 5.0\r\n", b"hello"), [REFUSED]),
    "length-exponent": (post(b"Content-Length: 5e0\r\n", b"hello"), [REFUSED]),
    "length-underscore": (post(b"Content-Length: 0_5\r\n", b"hello"), [REFUSED]),
    "length-two-numbers": (post(b"Content-Length: 5 5\r\n", b"hello"), [REFUSED]),
    "length-comma": (post(b"Content-Length: 5,\r\n", b"hello"), [REFUSED], [POSTED]),
    "length-quoted": (post(b'Content-Length: "5"\r\n', b"hello"), [REFUSED]),
    "length-parameter": (post(b"Content-Length: 5;a\r\n", b"hello"), [REFUSED]),
    "length-empty": (post(b"Content-Length:\r\n"), [REFUSED]),
    "length-word": (post(b"Content-Length: five\r\n", b"hello"), [REFUSED]),
    "length-other-digits": (post("Content-Length: ٥\r\n".encode(), b"hello"), [REFUSED]),
    "length-2-to-the-64": (post(b"Content-Length: 18446744073709551616\r\n", b"hello"), [REFUSED]),
    "length-2-to-the-64-and-5": (post(b"Content-Length: 18446744073709551621\r\n", b"hello"), [REFUSED]),
    "length-nul": (post(b"Content-Length: 5\0\r\n", b"hello"), [REFUSED]),
    "length-name-underscore": (post(b"Content_Length: 5\r\n"), [Passed("POST")], [REFUSED]),
    "length-too-short": (post(FIVE, b"hello!") + b"\r\n\r\n", [POSTED, REFUSED]),
    "cut-in-length": (post(FIVE, b"hell"), [CUT], [REFUSED]),
    "cut-before-length": (post(FIVE), [CUT], [REFUSED]),
    # Content by chunks (RFC 9112, 7.1).
    "chunked": (chunks(HELLO), [POSTED]),
    "chunked-empty": (chunks(b"0\r\n\r\n"), [Passed("POST")]),
    "chunked-many": (chunks(b"1\r\nh\r\n2\r\nel\r\n2\r\nlo\r\n0\r\n\r\n"), [POSTED]),
    "chunked-zeros": (chunks(b"0005\r\nhello\r\n000\r\n\r\n"), [POSTED]),
    "chunked-lower-case": (chunks(b"a\r\n0123456789\r\n0\r\n\r\n"), [Passed("POST", content=b"0123456789")]),
    "chunked-upper-case": (chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), [Passed("POST", content=b"0123456789")]),
    "chunked-any-case": (post(b"TRANSFER-ENCODING: Chunked\r\n", HELLO), [POSTED]),
    "chunked-spaces": (post(b"Transfer-Encoding: \t chunked \t\r\n", HELLO), [POSTED]),
    "chunked-of-get": (post(CHUNKED, HELLO, line=b"GET /%T HTTP/1.1"), [Passed(content=b"hello")]),
    "chunked-data-like-the-end": (chunks(b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"), [Passed("POST", content=b"\r\n0\r\n\r\n")]),
    "chunked-70000": (chunks(b"11170\r\n" + b"b" * 70_000 + b"\r\n0\r\n\r\n"), [Passed("POST", content=b"b" * 70_000)]),
    "extension": (chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n"), [POSTED]),
    "extension-no-value": (chunks(b"5;a\r\nhello\r\n0;b\r\n\r\n"), [POSTED]),
    "extension-quoted": (chunks(b'5;a="b; \\"c"\r\nhello\r\n0\r\n\r\n'), [POSTED]),
    "extension-spaces": (chunks(b"5 ; a = b\r\nhello\r\n0\r\n\r\n"), [POSTED]),
    "extension-two": (chunks(b"5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), [POSTED]),
    "extension-long": (chunks(b"5;a=" + b"b" * 2000 + b"\r\nhello\r\n0\r\n\r\n"), [POSTED], [REFUSED]),
    "extension-100000": (chunks(b"5;a=" + b"b" * 100_000 + b"\r\nhello\r\n0\r\n\r\n"), [REFUSED], [POSTED]),
    "extension-line-feed": (chunks(b"5;a\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "extension-line-feed-inside": (chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "extension-carriage-return": (chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-line-feed": (chunks(b"5\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-carriage-return": (chunks(b"5\rhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-space-after": (chunks(b"5 \r\nhello\r\n0\r\n\r\n"), [REFUSED], [POSTED]),
    "size-space-before": (chunks(b" 5\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-word-after-space": (chunks(b"5 a\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-empty": (chunks(b"\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-only-extension": (chunks(b";a\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-no-digit": (chunks(b"g\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-prefix": (chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-plus": (chunks(b"+5\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-minus": (chunks(b"-5\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-underscore": (chunks(b"0_5\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-nul": (chunks(b"5\0\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-2-to-the-64": (chunks(b"10000000000000000\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-2-to-the-64-and-5": (chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-too-small": (chunks(b"4\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "size-too-large": (chunks(b"6\r\nhello\r\n0\r\n\r\n"), [REFUSED]),
    "data-line-feed": (chunks(b"5\r\nhello\n0\r\n\r\n"), [REFUSED]),
    "data-no-end": (chunks(b"5\r\nhello0\r\n\r\n"), [REFUSED]),
    "data-carriage-returns": (chunks(b"5\r\nhello\r\r0\r\n\r\n"), [REFUSED]),
    "last-line-feed": (chunks(b"5\r\nhello\r\n0\n\r\n"), [REFUSED]),
    "end-line-feed": (chunks(b"5\r\nhello\r\n0\r\n\n"), [REFUSED], [POSTED]),
    "cut-in-size": (chunks(b"5"), [CUT], [REFUSED]),
    "cut-in-data": (chunks(b"5\r\nhel"), [CUT], [REFUSED]),
    "cut-before-last": (chunks(b"5\r\nhello\r\n"), [CUT], [REFUSED]),
    "cut-before-end": (chunks(b"5\r\nhello\r\n0\r\n"), [CUT], [REFUSED]),
    "cut-in-trailers": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\n"), [CUT], [REFUSED]),
    # Trailers, which may be dropped, but not damaged (RFC 9110, 6.5).
    "trailer": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n"), [upload(trailers=[("x-a", b"1")])], [upload(trailers=[])]),
    "trailers": (
        chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n", b"Trailer: X-A, X-B\r\n"),
        [upload(trailers=[("x-a", b"1"), ("x-b", b"2")])], [upload(trailers=[])],
    ),
    "trailer-length": (chunks(b"5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"), [upload(trailers=[])], [REFUSED]),
    "trailer-coding": (chunks(b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"), [upload(trailers=[])], [REFUSED]),
    "trailer-host": (chunks(b"5\r\nhello\r\n0\r\nHost: b.example\r\n\r\n"), [upload(trailers=[])], [REFUSED]),
    "trailer-authorization": (chunks(b"5\r\nhello\r\n0\r\nAuthorization: x\r\n\r\n"), [upload(trailers=[])], [REFUSED]),
    "trailer-no-colon": (chunks(b"5\r\nhello\r\n0\r\nX-A\r\n\r\n"), [REFUSED]),
    "trailer-space-before-colon": (chunks(b"5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n"), [REFUSED], [upload(trailers=[])]),
    "trailer-folded": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n"), [REFUSED], [upload(trailers=[])], [upload(trailers=[("x-a", b"1 2")])]),
    "trailer-line-feed": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\n\r\n"), [REFUSED], [upload(trailers=[])], [upload(trailers=[("x-a", b"1")])]),
    "trailer-nul": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\0\r\n\r\n"), [REFUSED], [upload(trailers=[])]),
    "trailer-carriage-return": (chunks(b"5\r\nhello\r\n0\r\nX-A: 1\r2\r\n\r\n"), [REFUSED], [upload(trailers=[])]),
    "trailers-too-long": (chunks(b"5\r\nhello\r\n0\r\nX-A: " + b"a" * 400_000 + b"\r\n\r\n"), [REFUSED], [upload(trailers=[])]),
    # Two lengths, and codings that nobody knows (RFC 9112, 6.1 and 6.3).
    "length-and-chunked": (post(FIVE + CHUNKED, HELLO), [REFUSED], [upload(closes=True)]),
    "chunked-and-length": (post(CHUNKED + FIVE, HELLO), [REFUSED], [upload(closes=True)]),
    "length-0-and-chunked": (post(b"Content-Length: 0\r\n" + CHUNKED, HELLO), [REFUSED], [upload(closes=True)]),
    "coding-twice": (post(CHUNKED * 2, HELLO), [REFUSED]),
    "coding-twice-list": (post(b"Transfer-Encoding: chunked, chunked\r\n", HELLO), [REFUSED]),
    "coding-before": (post(b"Transfer-Encoding: gzip, chunked\r\n", HELLO), [REFUSED], [Answered((200,))]),
    "coding-after": (post(b"Transfer-Encoding: chunked, gzip\r\n", HELLO), [REFUSED]),
    "coding-identity": (post(b"Transfer-Encoding: identity\r\n" + FIVE, b"hello"), [REFUSED]),
    "coding-identity-then-chunked": (post(b"Transfer-Encoding: identity\r\n" + CHUNKED, HELLO), [REFUSED]),
    "coding-chunked-then-identity": (post(CHUNKED + b"Transfer-Encoding: identity\r\n", HELLO), [REFUSED]),
    "coding-other": (post(b"Transfer-Encoding: gzip\r\n", b"hello"), [REFUSED]),
    "coding-like-chunked": (post(b"Transfer-Encoding: xchunked\r\n", HELLO), [REFUSED]),
    "coding-longer": (post(b"Transfer-Encoding: chunkedx\r\n" + FIVE, HELLO), [REFUSED]),
    "coding-quoted": (post(b'Transfer-Encoding: "chunked"\r\n', HELLO), [REFUSED]),
    "coding-parameter": (post(b"Transfer-Encoding: chunked;q=1\r\n", HELLO), [REFUSED]),
    "coding-vertical-tab": (post(b"Transfer-Encoding: \x0bchunked\r\n", HELLO), [REFUSED]),
    "coding-nul": (post(b"Transfer-Encoding: chunked\0\r\n", HELLO), [REFUSED]),
    "coding-no-break-space": (post(b"Transfer-Encoding: \xa0chunked\r\n", HELLO), [REFUSED]),
    "coding-empty": (post(b"Transfer-Encoding:\r\n" + FIVE, b"hello"), [REFUSED]),
    "coding-comma": (post(b"Transfer-Encoding: , chunked\r\n", HELLO), [REFUSED], [POSTED]),
    "coding-space-before-colon": (post(b"Transfer-Encoding : chunked\r\n", HELLO), [REFUSED]),
    "coding-name-underscore": (post(b"Transfer_Encoding: chunked\r\n" + FIVE, b"hello"), [POSTED], [REFUSED]),
    "coding-named-by-connection": (post(CHUNKED + b"Connection: transfer-encoding\r\n", HELLO), [POSTED], [REFUSED]),
    "length-named-by-connection": (post(FIVE + b"Connection: content-length\r\n", b"hello"), [POSTED], [REFUSED]),
    "host-named-by-connection": (get(b"Connection: host\r\n"), [Passed(fields=has(host=b"a.example"))], [REFUSED]),
    # What is for this hop only (RFC 9110, 7.6.1).
    "connection-close": (get(b"Connection: close\r\n"), [Passed(closes=True)]),
    "connection-close-among-others": (get(b"Connection: x-a, Close\r\nX-A: 1\r\n"), [Passed(fields=has(x_a=[]), closes=True)]),
    "connection-keep-alive": (get(b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), [Passed(fields=has(keep_alive=[]))]),
    "connection-names-field": (get(b"Connection: X-A\r\nX-A: 1\r\nX-B: 2\r\n"), [Passed(fields=has(x_a=[], x_b=b"2"))]),
    "connection-twice": (get(b"Connection: X-A\r\nConnection: X-B\r\nX-A: 1\r\nX-B: 2\r\n"), [Passed(fields=has(x_a=[], x_b=[]))]),
    "proxy-connection": (get(b"Proxy-Connection: close\r\n"), [Passed(fields=has(proxy_connection=[]))]),
    "te": (get(b"TE: gzip;q=0.5\r\nConnection: TE\r\n"), [PLAIN]),
    # Expectations, upgrades.
    "expect": (post(b"Expect: 100-continue\r\n" + FIVE, b"hello"), [POSTED]),
    "expect-chunked": (chunks(HELLO, b"Expect: 100-Continue\r\n"), [POSTED]),
    "expect-of-no-content": (get(b"Expect: 100-continue\r\n"), [PLAIN]),
    "expect-other": (post(b"Expect: tea\r\n" + FIVE, b"hello"), [POSTED], [REFUSED], [Answered((417,))]),
    "upgrade": (get(UPGRADE), [Passed(tunnelled=NEXT, fields=has(upgrade=b"websocket"))]),
    "upgrade-any-case": (get(UPGRADE.replace(b"websocket", b"WebSocket")), [Passed(tunnelled=NEXT)]),
    "upgrade-among-others": (get(b"Connection: keep-alive, upgrade\r\n" + SOCKET), [Passed(tunnelled=NEXT)]),
    "upgrade-not-named": (get(SOCKET), [Passed(fields=has(upgrade=[]))]),
    "upgrade-of-post": (post(UPGRADE + FIVE, b"hello"), [upload(fields=has(upgrade=[]))], [REFUSED]),
    "upgrade-to-http2": (
        get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
        [Passed(fields={"upgrade": [], "http2-settings": []})], [REFUSED],
    ),
    "upgrade-to-other": (get(b"Connection: upgrade\r\nUpgrade: irc\r\n"), [Passed(fields=has(upgrade=[]))]),
    # One after the other.
    "two": (get() + get(line=b"GET /%T-2 HTTP/1.1"), [PLAIN, Passed(target=b"/%T-2")]),
    "length-then-get": (post(FIVE, b"hello") + get(), [POSTED, PLAIN]),
    "chunked-then-get": (chunks(HELLO) + get(), [POSTED, PLAIN]),
    "trailer-then-get": (chunks(b"0\r\nX-A: 1\r\n\r\n") + get(), [Passed("POST"), PLAIN]),
    "head-then-get": (get(line=b"HEAD /%T HTTP/1.1") + get(), [Passed("HEAD"), PLAIN]),
    "empty-line-between": (get() + b"\r\n" + get(), [PLAIN, PLAIN]),
    "get-then-malformed": (get() + b"G@T /%T HTTP/1.1\r\n\r\n", [PLAIN, REFUSED]),
    "get-then-two-lengths": (get() + post(FIVE + CHUNKED, HELLO), [PLAIN, REFUSED], [PLAIN, upload(closes=True)]),
    "close-then-get": (get(b"Connection: close\r\n") + get(), [Passed(closes=True)]),
    "five": (get() * 5, [PLAIN] * 5),
}  # fmt: skip
