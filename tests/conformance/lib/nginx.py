"""Debian's nginx, to run a suite's cases beside a node: how many it passes is information, no demand."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

from lab import debian_packages


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Nginx:
    """A running nginx with one server of these directives, `listen` with these words."""

    def __init__(self, server, listen=""):
        self.directory = tempfile.TemporaryDirectory()
        here, self.port = pathlib.Path(self.directory.name), free_port()
        (here / "nginx.conf").write_text(
            f"daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log {here}/error.log crit;\n"
            "events { worker_connections 4096; }\n"
            f"http {{ access_log off; keepalive_requests 100000; client_body_temp_path {here}/body;\n"
            f"proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u; scgi_temp_path {here}/s;\n"
            f"server {{ listen 127.0.0.1:{self.port} {listen}; {server} }} }}\n"
        )
        installed, environment = shutil.which("nginx"), dict(os.environ)
        if installed is None:
            unpacked = debian_packages("nginx")
            installed = unpacked / "usr" / "sbin" / "nginx"
            environment["LD_LIBRARY_PATH"] = f"{unpacked}/usr/lib/x86_64-linux-gnu:{unpacked}/lib/x86_64-linux-gnu"
        command = [installed, "-p", here, "-e", here / "error.log", "-c", here / "nginx.conf"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"nginx does not start: {(here / 'error.log').read_text()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.directory.cleanup()
