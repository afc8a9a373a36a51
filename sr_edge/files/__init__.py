"""Files on disk: written whole or not at all, and recognised by their first bytes."""
