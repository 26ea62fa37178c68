"""Starts nats-servers on free loopback ports, for the findings that need one."""

import asyncio
import glob
import json
import os
import subprocess
import tempfile

import nats


async def _address(folder):
    for _ in range(100):
        for path in glob.glob(folder + "/*.ports"):
            with open(path) as ports:
                text = ports.read()
            if text.endswith("}"):
                return json.loads(text)["nats"][0]
        await asyncio.sleep(0.1)
    raise TimeoutError("nats-server did not start")


async def _run(binary, experiment):
    with tempfile.TemporaryDirectory() as folder:
        command = [binary, "-js", "-sd", folder, "-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            client = await nats.connect(await _address(folder))
            version = client.connected_server_version
            print(f"nats-server {version.major}.{version.minor}.{version.patch}")
            await asyncio.wait_for(experiment(client), 60)
            await client.close()
        finally:
            server.terminate()
            server.wait(10)


def run(experiment, *servers):
    """Runs an experiment with a client of each server; servers are paths of binaries in the environment."""
    for server in servers:
        asyncio.run(_run(os.environ[server], experiment))


async def outcome(doing):
    """What came of it: the result, or the error's words."""
    try:
        return await doing
    except Exception as error:
        return getattr(error, "description", None) or str(error)
