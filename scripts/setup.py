"""Makes .venv from the locked requirements; does nothing when it is up to date.

Usage: setup.py runtime|dev. uv installs (in .tools, apart from what it manages), plain pip
where uv cannot be had; both take the same hashed lock. Only the standard library is used."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
TOOLS = PROJECT / ".tools"
LOCKS = {"runtime": PROJECT / "requirements.lock", "dev": PROJECT / "requirements-dev.lock"}
UV_LOCK = PROJECT / "requirements-tools.lock"


def main() -> None:
    profile = sys.argv[1] if len(sys.argv) == 2 else ""
    if profile not in LOCKS:
        sys.exit("usage: setup.py runtime|dev")
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not up_to_date(profile):
            install(profile)


def up_to_date(profile: str) -> bool:
    """Whether .venv works and holds what the lock says. The development lock has everything
    that the runtime's has, in the same versions (a test holds them to it)."""
    return (
        works(VENV / "bin" / "python")
        and stamp(profile).is_file()
        and stamp(profile).read_text() == fingerprint(profile)
    )


def stamp(profile: str) -> Path:
    return VENV / f".ccm-{profile}"


def fingerprint(profile: str) -> str:
    return hashlib.sha256(LOCKS[profile].read_bytes()).hexdigest()


def install(profile: str) -> None:
    require_venv_module()
    print(f"Installing the {profile} requirements into .venv (once; later starts skip this) ...", flush=True)
    if not (install_with_uv(profile) or install_with_pip(profile)):
        sys.exit(
            "ccm: the requirements could not be installed: see the messages above (is the package registry reachable?)."
        )
    for other in LOCKS if profile == "dev" else (profile,):
        stamp(other).write_text(fingerprint(other))


def require_venv_module() -> None:
    try:
        import ensurepip
        import venv
    except ImportError as error:
        sys.exit(
            f"ccm: {sys.executable} has no {error.name} module, which virtual environments need. "
            "On Debian and Ubuntu: apt install python3-venv"
        )
    del ensurepip, venv


def install_with_uv(profile: str) -> bool:
    uv = TOOLS / "bin" / "uv"
    if not works(uv):
        made = run([sys.executable, "-m", "venv", "--clear", TOOLS / "venv"], quiet=True)
        pip = [TOOLS / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
        if not (made and run([*pip, "--require-hashes", "-r", UV_LOCK], quiet=True)):
            print("uv cannot be had here; pip installs instead, which takes about a minute.", flush=True)
            return False
        uv.parent.mkdir(exist_ok=True)
        uv.unlink(missing_ok=True)
        uv.symlink_to(TOOLS / "venv" / "bin" / "uv")
    # UV_SYSTEM_CERTS: the machine's certificates, which a company's mirror may need.
    environment = {
        "UV_SYSTEM_CERTS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_LINK_MODE": "copy",
        "UV_NO_PROGRESS": "1",
    }
    if not works(VENV / "bin" / "python") and not run(
        [uv, "venv", "-q", "--clear", "--python", sys.executable, VENV], environment
    ):
        return False
    command = [
        uv,
        "pip",
        "install",
        "-q",
        "--python",
        VENV / "bin" / "python",
        "--require-hashes",
        "-r",
        LOCKS[profile],
    ]
    return run(command, environment)


def install_with_pip(profile: str) -> bool:
    python = VENV / "bin" / "python"
    has_pip = works(python) and run([python, "-c", "import pip"], quiet=True)
    if not has_pip and not run([sys.executable, "-m", "venv", "--clear", VENV]):
        return False
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    return run([*pip, "--require-hashes", "-r", LOCKS[profile]])


def works(program: Path) -> bool:
    return program.exists() and run([program, "--version"], quiet=True)


def run(command: Sequence[object], environment: dict[str, str] | None = None, *, quiet: bool = False) -> bool:
    output = subprocess.DEVNULL if quiet else None
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **(environment or {})},
            stdout=output,
            check=False,
            stderr=output,
            cwd=PROJECT,
        )
    except OSError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    main()
