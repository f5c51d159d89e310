"""A graph in fp16, for GPUs. On a processor it answers too, by way of float32, so that its numbers can be checked."""

import sys

import onnx

from models.bundle.graph import cleaned, silence

# Beside those that onnxruntime leaves alone itself: powers and sums over places run out of fp16's range.
KEPT = ("Exp", "Log", "Pow", "ReduceLogSumExp", "ReduceMean", "ReduceSum", "Softmax")


def halved(graph: bytes) -> bytes:
    """The same with fp16 inside; what goes in and comes out stays as it was."""
    path = list(sys.path)
    with silence():
        try:
            from onnxruntime.transformers import float16  # late: it needs the onnx package
        finally:
            sys.path[:] = path  # it appends its own folder, whose files have names such as `benchmark`
        blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *KEPT]
        proto = float16.convert_float_to_float16(
            onnx.load_from_string(graph), keep_io_types=True, op_block_list=blocked
        )
    made = cleaned(in_order(proto))
    onnx.checker.check_model(made)
    raw: bytes = made.SerializeToString(deterministic=True)
    return raw


def in_order(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Each node after those whose values it takes, as ONNX asks for; onnxruntime puts its casts at the end."""
    graph = proto.graph
    known = {"", *(value.name for value in graph.input), *(weights.name for weights in graph.initializer)}
    pending = list(graph.node)
    sorted_: list[onnx.NodeProto] = []
    while pending:
        waiting: list[onnx.NodeProto] = []
        for node in pending:
            if known.issuperset(node.input):
                sorted_.append(node)
                known.update(node.output)
            else:
                waiting.append(node)
        if len(waiting) == len(pending):
            raise ValueError(f"{waiting[0].name} takes a value that nothing gives")
        pending = waiting
    in_turn = [onnx.NodeProto.FromString(node.SerializeToString()) for node in sorted_]
    del graph.node[:]
    graph.node.extend(in_turn)
    return proto
