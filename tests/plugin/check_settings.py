"""The product's settings for static checks, which have no environment of their own."""

import os
import tempfile
from pathlib import Path

from tests.plugin.environment import set_secrets

set_secrets()
os.environ["CCM_DATA_DIR"] = str(Path(tempfile.gettempdir()) / "ccm-checks")

from ccm_site.settings import *  # noqa: E402, F403
