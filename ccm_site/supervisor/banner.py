"""What the person at the terminal reads when the product is up."""

import json
import shlex
from pathlib import Path
from typing import Any


def client_lines(url: str, demo: dict[str, Any]) -> list[str]:
    """The two lines that make Claude Code use this installation, as bash and zsh take them."""
    models = demo["models"]
    variables = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": demo["customer"]["api_key"],
        "ANTHROPIC_DEFAULT_OPUS_MODEL": models["opus"],
        "ANTHROPIC_DEFAULT_SONNET_MODEL": models["sonnet"],
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": models["haiku"],
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(demo["context_window"]),
        "CLAUDE_CODE_GATEWAY_HINT_HEADERS": "1",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_AUTO_MODE_SERVER": "0",
    }
    assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return [f"export {assignments}", 'claude -p "hello"']


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
