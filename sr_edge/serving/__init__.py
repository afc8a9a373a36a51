"""Serves bundles in other programs: model repositories of Triton Inference Server, and trtexec commands."""
