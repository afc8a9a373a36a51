"""Archives of pictures and videos on many machines, with Ray: what to upscale, where it runs, and what is finished.

    result = sr_edge.cluster.upscale_many("tiny-x2.sredge", "s3://archive/photos", "s3://archive/large", ray="auto")

Names load on first use, and Ray with the first job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.cluster.batch import BatchProgress, FailedFile
    from sr_edge.cluster.job import BatchOptions, BatchResult, upscale_many

_HOMES = {
    "BatchOptions": "sr_edge.cluster.job",
    "BatchProgress": "sr_edge.cluster.batch",
    "BatchResult": "sr_edge.cluster.job",
    "FailedFile": "sr_edge.cluster.batch",
    "upscale_many": "sr_edge.cluster.job",
}

__all__ = ["BatchOptions", "BatchProgress", "BatchResult", "FailedFile", "upscale_many"]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
