"""The style sheet that is served is the one that its source and the templates make."""

import subprocess
from pathlib import Path

import pytest

from tests.processes import PROJECT

COMPILER = PROJECT / ".tools" / "css" / "bin" / "tailwindcss"


def test_the_style_sheet_is_built_from_its_source(tmp_path: Path):
    if not COMPILER.is_file():
        pytest.skip("the style sheet's compiler is not installed: `make css` installs it")
    built = tmp_path / "site.css"
    subprocess.run(["sh", "scripts/css.sh", str(built)], cwd=PROJECT, check=True, capture_output=True, timeout=60)
    committed = (PROJECT / "adminui" / "static" / "adminui" / "site.css").read_text()
    assert built.read_text() == committed, "run `make css` and commit what it built"
