"""Upscales every picture of a folder: python examples/folder.py MODEL INPUT_FOLDER OUTPUT_FOLDER

A picture that cannot be read does not stop the others. A second run does only what is missing.
"""

import sys
from pathlib import Path

import sr_edge
from sr_edge.upscaler import Outcome, upscale_folder


def upscale_all(model: str, source_folder: str, target_folder: str) -> int:
    """Returns the number of pictures that failed."""
    failed = 0
    with sr_edge.open_frame_session(model) as session:
        for result in upscale_folder(sr_edge.Upscaler(session), Path(source_folder), Path(target_folder)):
            print(f"{result.source.name}: {result.outcome} {result.reason}".rstrip())
            failed += result.outcome is Outcome.FAILED
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        sys.exit(1 if upscale_all(*sys.argv[1:]) else 0)
    except sr_edge.SrEdgeError as error:
        sys.exit(f"error: {error}")
