"""A run in ONNX Runtime that does not end by itself is ended at its limit."""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from tests.expected_errors import raises

ENDLESS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,3,4,4] x) => (float[1,3,4,4] y) <int64 trips = {4611686018427387904}, bool go = {1}> {
  y = Loop(trips, go, x) <body = b (int64 i, bool c, float[1,3,4,4] v) => (bool d, float[1,3,4,4] w) {
    d = Identity(c) w = Neg(v)
  }>
}"""


def test_a_loop_that_does_not_end_is_ended_at_the_limit() -> None:
    session = open_onnxruntime(onnx.parser.parse_model(ENDLESS))
    with raises(ExportError, wanted=0.2):
        run_session(session, {"x": np.zeros((1, 3, 4, 4), np.float32)}, limit_s=0.2)
