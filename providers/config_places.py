"""Where claude-code-mux and claude-code-router keep their configuration."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROUTER_FOLDER = ".claude-code-router"
MUX_FILE = Path(".claude-code-mux", "config.toml")
ROUTER_FILE = Path(ROUTER_FOLDER, "config.json")
USUAL_PLACES = {"claude-code-mux": MUX_FILE, "claude-code-router": ROUTER_FILE}
MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class Found:
    """A configuration of `program` in its usual place."""

    program: str
    file: Path


def found_in(home: Path) -> list[Found]:
    """The configurations in the home directory `home` that can be read."""
    return [Found(program, home / place) for program, place in USUAL_PLACES.items() if _is_file(home / place)]


def file_in(folder: Path) -> Path:
    """The configuration in a program's own folder; `folder` itself when there is none."""
    files = (folder / place.name for place in USUAL_PLACES.values())
    return next(filter(_is_file, files), folder)


def project_routers(file: Path) -> Iterator[Path]:
    """The routers of single projects and sessions that claude-code-router keeps beside its `file`."""
    folder = file.resolve().parent
    if folder.name != ROUTER_FOLDER:
        return
    others = {"presets", "plugins", "logs", "node_modules"}
    try:
        projects = sorted(each for each in folder.iterdir() if each.is_dir() and each.name not in others)
        for project in projects[:MOST_LISTED]:
            yield from sorted(project.glob("*.json"))[:MOST_LISTED]
    except OSError:
        return


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False
