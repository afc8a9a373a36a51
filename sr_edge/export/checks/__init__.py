"""Checks of a finished graph: what a runtime is known to refuse or to compute wrongly, before a device sees it."""
