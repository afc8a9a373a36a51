"""`python -m sr_edge` is `sr-edge`."""

from __future__ import annotations

from sr_edge.cli import main

if __name__ == "__main__":
    main()
