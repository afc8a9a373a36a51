"""Families of networks that spandrel recognises in a checkpoint: their table, their keys, the library itself."""
