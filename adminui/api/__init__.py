"""The customers' API at /api/v1 (README.md). One module for each resource."""
