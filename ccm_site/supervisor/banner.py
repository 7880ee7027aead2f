"""What the person at the terminal reads when the product is up."""

import json
from pathlib import Path
from typing import Any

from adminui.connect import ConnectModels, connect_snippet
from providers.config_places import found_in


def client_lines(url: str, demo: dict[str, Any]) -> list[str]:
    """The two lines that make Claude Code use this installation, as sh, bash and zsh take them."""
    models = ConnectModels(**demo["models"], context_window=demo["context_window"])
    return [connect_snippet(url, demo["customer"]["api_key"], models).one_line, 'claude -p "hello"']


def import_lines(home: Path) -> list[str]:
    """The command that imports what another router of Claude Code keeps in `home`, if there is any."""
    lines = []
    for found in found_in(home):
        place = found.file.relative_to(home)
        lines += [
            f"A {found.program} configuration is on this machine. To import it (--dry-run shows what would be done):",
            f"  .venv/bin/python manage.py import_config ~/{place}",
            "",
        ]
    return lines


def banner(url: str, data_dir: Path, home: Path | None = None) -> str:
    """The whole text; `demo.json` in `data_dir` tells of the seeded log-ins, if there are any. In `home`
    other routers' configurations are looked for."""
    lines = ["", f"CCM is ready at {url}", ""]
    demo_file = data_dir / "demo.json"
    if demo_file.exists():
        demo = json.loads(demo_file.read_text())
        for role, where in (("operator", f"{url}/admin/"), ("customer", f"{url}/")):
            lines.append(
                f"  {role:9} {where:32} {demo[role]['email']}   {demo[role]['password'] or '(password changed)'}"
            )
        lines += [
            "",
            "Paste these two lines into a shell to use Claude Code through it:",
            "",
            *client_lines(url, demo),
            "",
            f"Mails (codes of sign-ups, receipts) are printed to {data_dir / 'logs' / 'worker.log'}",
        ]
    else:
        lines += [
            f"  operators {url}/admin/",
            "  make a key: .venv/bin/python manage.py create_key --email you@example.org --credits 5",
            "",
        ]
    if home is not None:
        lines += import_lines(home)
    return "\n".join([*lines, f"Logs: {data_dir / 'logs'}    Stop: Ctrl-C", ""])
