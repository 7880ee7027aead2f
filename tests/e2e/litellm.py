"""A real LiteLLM proxy, in a virtual environment of its own: its many packages are none of the project's."""

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ccm_site.supervisor.processes import free_port, spawn
from tests.e2e.clients import FOLDER, NotInstalled

ENVIRONMENT = FOLDER / "litellm"
INSTALL_SECONDS = 1800
START_SECONDS = 300
INPUT, OUTPUT = 3000, 15000
"""The prices of its model, in nano-USD a token."""
SAYS = "Hello from LiteLLM."
CONFIG = """
model_list:
  - model_name: lite-actual
    litellm_params:
      model: hosted_vllm/lite-actual
      api_key: none
      api_base: {upstream}
    model_info:
      input_cost_per_token: {input:.9f}
      output_cost_per_token: {output:.9f}
"""


@dataclass(frozen=True)
class LiteLLM:
    url: str
    key: str


def install() -> Path:
    """The program, installed unless it is there. Raises NotInstalled."""
    program = ENVIRONMENT / "bin" / "litellm"
    if program.is_file():
        return program
    subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True, capture_output=True, timeout=300)
    pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "-q", "--disable-pip-version-check", "litellm[proxy]"]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if not program.is_file():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        raise NotInstalled(f"pip could not install litellm[proxy]: {(done.stdout + done.stderr)[-1500:]}")
    return program


@contextmanager
def running(program: Path, folder: Path, upstream: str) -> Iterator[LiteLLM]:
    """The proxy on loopback, with one model, which a fake at `upstream` plays. (What LiteLLM mocks by itself it answers
    without cost and never as a stream on `/v1/messages`.)"""
    (folder / "config.yaml").write_text(CONFIG.format(upstream=upstream, input=INPUT / 10**9, output=OUTPUT / 10**9))
    port, key = free_port(), f"sk-{secrets.token_hex(24)}"
    environment = {
        "HOME": str(folder),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    command = [str(program), "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    output = folder / "output"
    with output.open("wb") as file:
        process = spawn(command, output=file, cwd=folder, environment=environment)
    try:
        _await(process, f"http://127.0.0.1:{port}", output)
        yield LiteLLM(f"http://127.0.0.1:{port}", key)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(30)


def _await(process: "subprocess.Popen[bytes]", url: str, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"{url}/health/liveliness", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"LiteLLM did not become ready: {output.read_text()[-3000:]}")
        time.sleep(0.2)
