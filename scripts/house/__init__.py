"""Measures how readable the code is: folders, imports, lengths, duplicates, what the tests rely on, and vocabulary."""
