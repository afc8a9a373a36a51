"""The steps of a session. Each module has a `main`, which `python -m gpu_session NAME` runs."""
