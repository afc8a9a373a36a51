"""What the noise of a variant costs in decibels, beside the first fp32 one, on tiles like those that it will see.

In float and before any rounding to 8 bits: rounding turns a hundredth of a level here and there into a whole one, which
would count ten times as much. How noise becomes decibels says `sr_edge.calibration.quality`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from sr_edge.bench.protocol import OpenVariant
from sr_edge.bench.rows import Row
from sr_edge.calibration.quality import best_known_db, cost_of_pictures_db
from sr_edge.controls import Controls
from sr_edge.errors import EngineError
from sr_edge.runtimes.session import Batch, Session
from sr_edge.spec import Precision


def with_costs(
    rows: Sequence[Row], opened: Sequence[OpenVariant | Row], patches: Sequence[Batch], scale: int, controls: Controls
) -> list[Row]:
    """The rows with `Quality.cost_db`; as they are without patches, or where nothing runs in fp32."""
    sessions = {entry.variant: entry.session for entry in opened if isinstance(entry, OpenVariant)}
    sound = [row.variant for row in rows if row.quality]
    exact = next((found for found in sound if found.precision is sessions[found].spec.ran is Precision.FP32), None)
    if not patches or exact is None:
        return list(rows)
    wanted = _pictures(sessions[exact], patches, controls)

    def costed(row: Row) -> Row:
        if row.quality is None:
            return row
        try:
            found = _pictures(sessions[row.variant], patches, controls)
        except EngineError as error:
            return replace(row, remarks=(*row.remarks, str(error)))
        cost_db = cost_of_pictures_db(found, wanted, best_known_db(scale))
        return replace(row, quality=replace(row.quality, cost_db=cost_db))

    return [costed(row) for row in rows]


def _pictures(session: Session, patches: Sequence[Batch], controls: Controls) -> list[Batch]:
    return [cast(Batch, session.run(patch, controls)) for patch in patches]
