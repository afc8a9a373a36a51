"""Graphs of odd forms: every pass that makes graphs faster, and every rewrite, leaves them alone or keeps the outputs.

A form is a change of a graph that keeps what it computes, such as other names or a further reader of a tensor. Each is
applied to graphs that passes change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.view import graph_inputs
from sr_edge.export.passes.pass_result import GraphPass
from sr_edge.export.passes.rewrites.pipeline import REWRITES
from sr_edge.export.passes.speed_passes import SPEED_PASSES
from tests.export.passes.attention.window_graphs import Block, swin_block
from tests.export.passes.test_pass_contract import PASSES

Form = Callable[[onnx.ModelProto], onnx.ModelProto]

EVERY_PASS: tuple[GraphPass, ...] = (*REWRITES, *(speed_pass.apply for speed_pass in SPEED_PASSES))
CONDITION = "is this so?"
ISLAND = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4,6,5] x) => (float[1,4,6,5] y)
  <float[4] s = {1, 2, 3, 4}, float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, float half = {0.5},
   float[4,4,1,1] v = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}, float[4] b = {1, 2, 3, 4}>
  { a = Transpose<perm = [0, 2, 3, 1]>(x) n = LayerNormalization(a, s) p = MatMul(n, w) q = Add(p, b) e = Erf(q)
    h = Mul(e, half) r = Transpose<perm = [0, 3, 1, 2]>(h) c = Conv(r, v, b) d = Conv(c, v)
    l, m = Split<axis = 1>(d) o = Concat<axis = 1>(m, l) y = Add(o, x) }"""

BASES: dict[str, onnx.ModelProto] = {
    **{name: case.model for name, case in PASSES.items() if case.run in EVERY_PASS},
    "window attention": swin_block(Block(4, 4, 2, 1, 2, 2, np.float32)),
    "island": onnx.parser.parse_model(ISLAND),
}


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    return changed


def inner_tensors(model: onnx.ModelProto) -> list[str]:
    """The tensors that nodes compute and that are no outputs."""
    outputs = {value.name for value in model.graph.output}
    return [name for node in model.graph.node for name in node.output if name and name not in outputs]


def typed(model: onnx.ModelProto, names: Sequence[str]) -> list[onnx.ValueInfoProto]:
    """Declarations of inner tensors, with their inferred shapes."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = {value.name: value for value in inferred.graph.value_info}
    return [known[name] for name in names if name in known]


def renamed(model: onnx.ModelProto, name_of: Callable[[str], str]) -> onnx.ModelProto:
    """The model with other names of its inner tensors, constants and nodes."""
    changed = copied(model)
    fixed = {"", *(value.name for value in (*model.graph.input, *model.graph.output))}
    for node in changed.graph.node:
        node.name = name_of(node.name or f"the node of {node.output[0]}")
        node.input[:] = [name if name in fixed else name_of(name) for name in node.input]
        node.output[:] = [name if name in fixed else name_of(name) for name in node.output]
    for tensor in changed.graph.initializer:
        tensor.name = name_of(tensor.name)
    return changed


def odd_names(model: onnx.ModelProto) -> onnx.ModelProto:
    return renamed(model, lambda name: f"/ö:0 \N{SNOWMAN}\t'{name}'%s{{}}/")


def names_that_passes_make(model: onnx.ModelProto) -> onnx.ModelProto:
    """Gives tensors and nodes the names that a pass gives to new ones."""
    made: set[str] = set()
    for graph_pass in EVERY_PASS:
        graph = graph_pass(model).model.graph
        made |= {name for node in graph.node for name in (node.name, *node.output)}
        made |= {tensor.name for tensor in graph.initializer}
    taken = {"", *(name for node in model.graph.node for name in (node.name, *node.input, *node.output))}
    free = iter(sorted(made - taken))
    names: dict[str, str] = {}
    return renamed(model, lambda name: names.setdefault(name, next(free, name)))


def no_names_of_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    for node in changed.graph.node:
        node.name = ""
    return changed


def every_tensor_is_an_output(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    changed.graph.output.extend(typed(model, inner_tensors(model)))
    return changed


def the_first_tensor_is_an_output(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    changed.graph.output.extend(typed(model, inner_tensors(model)[:1]))
    return changed


def with_second_readers(model: onnx.ModelProto) -> onnx.ModelProto:
    """Another output that depends on every float tensor and constant of the graph."""
    changed = copied(model)
    names = [each.name for each in typed(model, inner_tensors(model)) if each.type.tensor_type.elem_type == 1]
    names += [tensor.name for tensor in model.graph.initializer if tensor.data_type == 1]
    total = ""
    for number, name in enumerate(names):
        changed.graph.node.append(helper.make_node("ReduceMax", [name], [f"most {number}"], keepdims=0))
        if total:
            changed.graph.node.append(helper.make_node("Add", [total, f"most {number}"], [f"total {number}"]))
        total = f"total {number}" if total else f"most {number}"
    if total:
        changed.graph.output.append(helper.make_tensor_value_info(total, onnx.TensorProto.FLOAT, []))
    return changed


def with_subgraphs(model: onnx.ModelProto) -> onnx.ModelProto:
    """An If of which both branches read every float tensor and constant of the graph."""
    changed = copied(model)
    names = [each.name for each in typed(model, inner_tensors(model)) if each.type.tensor_type.elem_type == 1]
    names += [tensor.name for tensor in model.graph.initializer if tensor.data_type == 1]
    if not names:
        return changed
    branches = []
    for operator in ("ReduceMax", "ReduceMin"):
        inner = [helper.make_node(operator, [name], [f"{operator} {name}"], keepdims=0) for name in names]
        inner.append(helper.make_node("Sum", [f"{operator} {name}" for name in names], [f"{operator} of all"]))
        result = helper.make_tensor_value_info(f"{operator} of all", onnx.TensorProto.FLOAT, [])
        branches.append(helper.make_graph(inner, operator, [], [result]))
    changed.graph.input.append(helper.make_tensor_value_info(CONDITION, onnx.TensorProto.BOOL, []))
    changed.graph.node.append(
        helper.make_node("If", [CONDITION], ["chosen"], then_branch=branches[0], else_branch=branches[1])
    )
    changed.graph.output.append(helper.make_tensor_value_info("chosen", onnx.TensorProto.FLOAT, []))
    return changed


def twice_with_shared_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The whole graph a second time, on the negative inputs, with the same constants."""
    changed = copied(model)
    names = {}
    for value in model.graph.input:
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            names[value.name] = f"{value.name} again"
            changed.graph.node.append(helper.make_node("Neg", [value.name], [names[value.name]]))
    names |= {name: f"{name} again" for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        copy = changed.graph.node.add()
        copy.CopyFrom(node)
        copy.name = f"{node.name} again" if node.name else ""
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
    for value in model.graph.output:
        copied_value = changed.graph.output.add()
        copied_value.CopyFrom(value)
        copied_value.name = names[value.name]
    return changed


def empty_optional_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    for node in changed.graph.node:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=17)
        absent = schema.inputs[len(node.input) :]
        if absent and absent[0].option == onnx.defs.OpSchema.FormalParameterOption.Optional:
            node.input.append("")
    return changed


def constants_are_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    nodes = [
        helper.make_node("Constant", [], [tensor.name], name=f"constant {tensor.name}", value=tensor)
        for tensor in model.graph.initializer
    ]
    del changed.graph.initializer[:], changed.graph.node[:]
    changed.graph.node.extend([*nodes, *model.graph.node])
    return changed


def constants_are_inputs_with_defaults(model: onnx.ModelProto) -> onnx.ModelProto:
    """As files of ONNX IR versions before 4 list them."""
    changed = copied(model)
    for tensor in model.graph.initializer:
        changed.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    return changed


def of_opset(version: int) -> Form:
    def converted(model: onnx.ModelProto) -> onnx.ModelProto:
        try:
            return onnx.version_converter.convert_version(model, version)
        except RuntimeError as error:  # an operator that the version does not have
            pytest.skip(str(error)[:100])

    return converted


FORMS: dict[str, Form] = {
    "as it is": copied,
    "odd names": odd_names,
    "names that passes make": names_that_passes_make,
    "no names of nodes": no_names_of_nodes,
    "every tensor is an output": every_tensor_is_an_output,
    "the first tensor is an output": the_first_tensor_is_an_output,
    "second readers": with_second_readers,
    "subgraphs": with_subgraphs,
    "twice with shared weights": twice_with_shared_weights,
    "empty optional inputs": empty_optional_inputs,
    "constants are nodes": constants_are_nodes,
    "constants are inputs": constants_are_inputs_with_defaults,
    "opset 13": of_opset(13),
    "opset 18": of_opset(18),
    "opset 21": of_opset(21),
}


def run(model: onnx.ModelProto) -> list[npt.NDArray[np.float32]]:
    """The outputs for seeded inputs, in ONNX Runtime without its optimizations."""
    session = open_onnxruntime(model, optimize=False)
    generator, feed = np.random.default_rng(0), {}
    for value in session.get_inputs():
        is_bool = value.type == "tensor(bool)"
        numbers = _numbers(generator, value.shape)
        feed[value.name] = np.asarray(numbers > 0.0) if is_bool else numbers
    return list(run_session(session, feed).values())


def _numbers(generator: np.random.Generator, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    return np.asarray(generator.standard_normal(shape), np.float32)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("base", BASES)
def test_all_passes_keep_the_outputs(base: str, form: str) -> None:
    model = FORMS[form](BASES[base])
    onnx.checker.check_model(model)
    before, serialized = run(model), model.SerializeToString(deterministic=True)
    changed = model
    for graph_pass in EVERY_PASS:
        changed = graph_pass(changed).model
    assert model.SerializeToString(deterministic=True) == serialized
    assert [value.name for value in changed.graph.output] == [value.name for value in model.graph.output]
    assert {value.name for value in graph_inputs(changed)} == {value.name for value in graph_inputs(model)}
    onnx.checker.check_model(changed, full_check=True)
    for actual, expected in zip(run(changed), before, strict=True):
        assert actual.shape == expected.shape
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


def test_the_graphs_are_changed_as_they_are() -> None:
    """Otherwise these tests would show nothing."""
    for base, model in BASES.items():
        assert any(graph_pass(model).changed for graph_pass in EVERY_PASS), base
