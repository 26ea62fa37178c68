"""Serves a fixed answer over HTTP/1.1 on two ports, outside of what is measured."""

import socket
import threading

from measure.world import BODY

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY


def start() -> tuple[int, int]:
    """Starts both, in threads that end with this process, and returns their ports."""
    ports = []
    for _ in range(2):
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        ports.append(listener.getsockname()[1])
    return ports[0], ports[1]


def accept(listener: socket.socket):
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection: socket.socket):
    """Answers each head of a connection; requests here have no bodies."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
            heads = received.count(b"\r\n\r\n")
            if heads:
                received = received[received.rindex(b"\r\n\r\n") + 4 :]
                connection.sendall(ANSWER * heads)
    except OSError:
        pass
    connection.close()
