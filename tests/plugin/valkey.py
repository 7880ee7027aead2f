"""Private Valkey servers for tests."""

import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from ccm_site.supervisor.processes import free_port, spawn
from ccm_site.supervisor.valkey import valkey_command

START_SECONDS = 30


@dataclass
class ValkeyServer:
    process: "subprocess.Popen[bytes]"
    port: int
    directory: Path

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def stop(self) -> None:
        """Kill the server, as a fault would."""
        self.process.kill()
        self.process.wait(10)
        shutil.rmtree(self.directory, ignore_errors=True)


def start(attempts: int = 5) -> ValkeyServer:
    """Start a Valkey on a free loopback port. Raises RuntimeError when none starts."""
    for _ in range(attempts):
        directory = Path(tempfile.mkdtemp(prefix="ccm-valkey-"))
        port = free_port()
        process = spawn(valkey_command(port=port, directory=directory), output=subprocess.DEVNULL)
        server = ValkeyServer(process, port, directory)
        if _answers(server):
            return server
        server.stop()
    raise RuntimeError("Valkey did not start.")


def _answers(server: ValkeyServer) -> bool:
    deadline = time.monotonic() + START_SECONDS
    with redis.Redis.from_url(server.url, socket_timeout=1) as client:
        while server.process.poll() is None and time.monotonic() < deadline:
            try:
                # Not only somebody on that port: this very process.
                info = client.info("server")
            except redis.RedisError:
                time.sleep(0.01)
            else:
                return isinstance(info, dict) and info["process_id"] == server.process.pid
    return False
