"""``python -m rs_embed`` is the command line."""

from rs_embed.cli import main

main()
