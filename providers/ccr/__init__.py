"""Reads claude-code-router's config.json (JSON5; v1 and v2, and the manifests of its presets).

Its models are named provider/model here, as its users write them (`/model provider,model`). Code that a
file names (custom routers, transformers of one's own, plugins) is never run.
"""

from providers.ccr.reader import parse

__all__ = ["parse"]
