"""What the person at the terminal reads when the product is up."""

import json
from pathlib import Path
from typing import Any

from adminui.connect import ConnectModels, connect_snippet


def client_lines(url: str, demo: dict[str, Any]) -> list[str]:
    """The two lines that make Claude Code use this installation, as sh, bash and zsh take them."""
    models = ConnectModels(**demo["models"], context_window=demo["context_window"])
    return [connect_snippet(url, demo["customer"]["api_key"], models).one_line, 'claude -p "hello"']


def banner(url: str, data_dir: Path) -> str:
    """The whole text; `demo.json` in `data_dir` tells of the seeded log-ins, if there are any."""
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
        ]
    else:
        lines += [
            f"  operators {url}/admin/",
            "  make a key: .venv/bin/python manage.py create_key --email you@example.org --credits 5",
            "",
        ]
    return "\n".join([*lines, f"Logs: {data_dir / 'logs'}    Stop: Ctrl-C", ""])
