"""Upscales several pictures with one upscaler: python examples/asyncio_pictures.py MODEL OUTPUT_FOLDER INPUT...

Any number of threads may use an upscaler. Each picture is read, upscaled and written in a worker thread, so the event
loop is never blocked and remains free for other work, such as the requests of a server.
"""

import asyncio
import sys
from pathlib import Path

import sr_edge


async def upscale_all(upscaler: sr_edge.Upscaler, sources: list[Path], folder: Path, in_memory: int = 4) -> None:
    places = asyncio.Semaphore(in_memory)

    async def upscale(source: Path) -> None:
        async with places:
            await asyncio.to_thread(sr_edge.upscale_file, upscaler, source, folder / source.name)
        print("written:", folder / source.name)

    await asyncio.gather(*map(upscale, sources))


async def main(model: str, folder: str, *sources: str) -> None:
    upscaler = await asyncio.to_thread(sr_edge.open_upscaler, model)
    try:
        await upscale_all(upscaler, [Path(source) for source in sources], Path(folder))
    finally:
        await asyncio.to_thread(upscaler.close)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        asyncio.run(main(*sys.argv[1:]))
    except sr_edge.SrEdgeError as error:
        sys.exit(f"error: {error}")
