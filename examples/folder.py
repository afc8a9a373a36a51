"""Upscales every picture of a folder: python examples/folder.py MODEL INPUT_FOLDER OUTPUT_FOLDER

A picture that cannot be read does not stop the others. A second run does only what is missing.
"""

import sys

import sr_edge


def upscale_all(model: str, source_folder: str, target_folder: str) -> int:
    """Returns the number of pictures that failed."""
    failed = 0
    with sr_edge.open_upscaler(model) as upscaler:
        for result in sr_edge.upscale_folder(upscaler, source_folder, target_folder):
            print(f"{result.source.name}: {result.outcome} {result.reason}".rstrip())
            failed += result.outcome == "failed"
    return failed


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        sys.exit(1 if upscale_all(*sys.argv[1:]) else 0)
    except sr_edge.SrEdgeError as error:
        sys.exit(f"error: {error}")
