"""The data directory: its secrets are drawn once, private, and belong to one running CCM."""

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from ccm_site.supervisor.installation import (
    CannotStart,
    data_dir_of,
    lock,
    prepare,
    read_env,
    require_free_port,
    write_secret,
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_read_the_secrets(data_dir: Path) -> None:
    prepare({}, data_dir)
    assert mode(data_dir) == 0o700
    assert mode(data_dir / "env") == 0o600


def test_a_directory_that_others_could_read_is_closed(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    prepare({}, data_dir)
    assert mode(data_dir) == 0o700


def test_secrets_are_drawn_once(data_dir: Path) -> None:
    first = prepare({}, data_dir)
    text = (data_dir / "env").read_text()
    second = prepare({}, data_dir)
    assert (data_dir / "env").read_text() == text
    assert first.environment == second.environment
    Fernet(first.environment["CCM_ENCRYPTION_KEYS"])
    assert len(first.environment["DJANGO_SECRET_KEY"]) >= 50


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    one, other = read_prepared(tmp_path / "one"), read_prepared(tmp_path / "other")
    for name in ("DJANGO_SECRET_KEY", "CCM_ENCRYPTION_KEYS", "CCM_KEY_PEPPER", "REDIS_URL"):
        assert one[name] != other[name]


def read_prepared(data_dir: Path) -> dict[str, str]:
    prepare({}, data_dir)
    return read_env(data_dir / "env")


def test_the_environment_wins_over_the_file_and_is_not_written_to_it(data_dir: Path) -> None:
    installation = prepare({"DJANGO_SECRET_KEY": "mine", "PORT": "8123"}, data_dir)
    assert installation.environment["DJANGO_SECRET_KEY"] == "mine"
    assert installation.port == 8123
    assert "mine" not in (data_dir / "env").read_text()


def test_a_redis_of_the_operators_own_is_used(data_dir: Path) -> None:
    installation = prepare({"REDIS_URL": "redis://example/0"}, data_dir)
    assert installation.valkey_port is None
    assert "REDIS_URL" not in read_env(data_dir / "env")


def test_valkey_moves_when_its_port_was_taken(data_dir: Path, taken_port: int) -> None:
    data_dir.mkdir()
    write_secret(data_dir / "env", f"REDIS_URL=redis://:word@127.0.0.1:{taken_port}/0\n")
    installation = prepare({}, data_dir)
    assert installation.valkey_port not in {None, taken_port}
    assert installation.valkey_password == "word"
    assert read_env(data_dir / "env")["REDIS_URL"] == installation.environment["REDIS_URL"]


def test_a_second_start_on_the_same_directory_is_refused_in_one_line(data_dir: Path) -> None:
    data_dir_of({}, data_dir)
    with lock(data_dir), pytest.raises(CannotStart) as refusal:
        lock(data_dir)
    assert f"process {os.getpid()}" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_the_directory_is_free_again_afterwards(data_dir: Path) -> None:
    data_dir_of({}, data_dir)
    with lock(data_dir):
        pass
    with lock(data_dir):
        pass


def test_a_taken_port_is_told_with_the_way_out(data_dir: Path, taken_port: int) -> None:
    installation = prepare({"PORT": str(taken_port)}, data_dir)
    with pytest.raises(CannotStart, match=rf"^Port {taken_port} is taken: PORT={taken_port + 1} make run$"):
        require_free_port(installation)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1", "８０"])
def test_a_port_that_is_none_is_refused(data_dir: Path, port: str) -> None:
    with pytest.raises(CannotStart, match="PORT must be a number"):
        prepare({"PORT": port}, data_dir)


@pytest.mark.parametrize("workers", ["0", "257", "two"])
def test_a_wrong_number_of_workers_is_refused(data_dir: Path, workers: str) -> None:
    with pytest.raises(CannotStart, match="WORKERS must be a number from 1 to 256"):
        prepare({"WORKERS": workers}, data_dir)


def test_a_data_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="Set CCM_DATA_DIR"):
        prepare({"CCM_DATA_DIR": str(tmp_path / "file" / "data")}, tmp_path)


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"), ("127.0.0.1", "http://127.0.0.1:8000")],
)
def test_the_url_is_one_that_can_be_opened(data_dir: Path, host: str, url: str) -> None:
    assert prepare({"HOST": host}, data_dir).url == url


def test_a_secret_in_a_file_of_its_own_is_not_drawn(data_dir: Path) -> None:
    prepare({"CCM_KEY_PEPPER_FILE": "/run/secrets/pepper"}, data_dir)
    assert "CCM_KEY_PEPPER" not in read_env(data_dir / "env")
