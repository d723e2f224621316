"""The command line: parsing and printing only."""

from rs_embed.cli import catalogue, embed, estimate, checks, weights  # isort: skip - in the order of the help
from rs_embed.cli.app import app, main

__all__ = ["app", "catalogue", "checks", "embed", "estimate", "main", "weights"]
