"""Every node of a graph gets the path of the module that it comes from, or of the nearest one."""

from __future__ import annotations

import onnx

from sr_edge.export.graph.source_layers import SCOPES, source_layers


def graph(nodes: str) -> onnx.ModelProto:
    header = '<ir_version: 10, opset_import: ["" : 17]> g (float[1,3,4,4] x) => (float[1,3,4,4] y) <float[1] w = {1}>'
    return onnx.parser.parse_model(f"{header} {{ {nodes} }}")


def named(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    return model


def test_paths_in_names_of_nodes() -> None:
    model = named(graph("a = Neg(x) b = Neg(a) y = Neg(b)"), "/body/body.0/Neg", "/body/body.1/conv/Neg", "/up/Neg_1")
    assert source_layers(model) == ("body.0", "body.1.conv", "up")


def test_nodes_that_replace_one_have_its_path() -> None:
    model = named(graph("a = Neg(x) y = Neg(a)"), "/body/attn/Einsum_1/Neg", "/body/attn/Einsum_1/Neg_1")
    assert source_layers(model) == ("body.attn", "body.attn")


def test_scopes_of_the_newer_exporter() -> None:
    model = named(graph("a = Neg(x) y = Neg(a)"), "node_neg", "node_neg_1")
    for node, scopes in zip(model.graph.node, ("['', 'body', 'body.0', 'neg']", "['', 'neg_1']"), strict=True):
        node.metadata_props.add(key=SCOPES, value=scopes)
    assert source_layers(model) == ("body.0", "body.0")


def test_damaged_scopes_are_ignored() -> None:
    model = named(graph("a = Neg(x) y = Neg(a)"), "/up/Neg", "/up/Neg_1")
    for node, scopes in zip(model.graph.node, ("[[[", "{'a': 1}"), strict=True):
        node.metadata_props.add(key=SCOPES, value=scopes)
    assert source_layers(model) == ("up", "up")


def test_paths_in_names_of_parameters() -> None:
    model = graph("a = Neg(x) y = Mul(a, w)")
    model.graph.initializer[0].name = model.graph.node[1].input[1] = "body.0.scale.weight"
    assert source_layers(model) == ("body.0.scale", "body.0.scale")


def test_readers_are_nearer_than_what_is_read() -> None:
    model = named(graph("a = Neg(x) b = Neg(a) y = Neg(b)"), "/first/Neg", "", "/last/Neg")
    assert source_layers(model) == ("first", "last", "last")


def test_a_graph_without_any_path() -> None:
    assert source_layers(named(graph("a = Neg(x) y = Mul(a, w)"), "weird, (name)/", "")) == ("", "")
