"""Eight-bit weights for an ONNX graph: its tables here, its other matrices by onnxruntime's dynamic quantisation.

onnxruntime would multiply in fp32 with an output layer that is the table of embeddings too. Here every row of it has a scale
of its own, which is that of the row's logit, and the table lies in the file once.

Weights have 7 of the 8 bits: processors without VNNI add two products in 16 bits, which overflow otherwise. It costs nothing:
sentence similarity of multilingual-e5-small is 0.984 with either (200 Slovak sentences), and 0.955 with one scale a matrix.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hf_lrcompress.export.graphs import quiet

if TYPE_CHECKING:
    import onnx
    import onnx_ir

LEVELS = 63
"""Of a weight's magnitude, in 7 bits."""


def quantize(model: "onnx_ir.Model") -> "onnx.ModelProto":
    """A graph's copy in which weights are 8 bits, and so are the activations that meet them, by their range at run time.

    Args:
        model (`onnx_ir.Model`): What [`to_onnx`] gives; not changed.
    """
    import onnx  # here: it is optional, as all of this room
    import onnx_ir
    from onnxruntime.quantization import QuantType, quantize_dynamic

    copy = onnx_ir.from_proto(onnx_ir.to_proto(model))
    for table in [value for value in copy.graph.initializers.values() if _is_table(value)]:
        _quantize_table(copy.graph, table)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        quantize_dynamic(
            onnx_ir.to_proto(copy),
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def rows_in_8_bits(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every row of a matrix by its largest magnitude: row ≈ levels · scale.

    Args:
        weight (`np.ndarray` of shape `(rows, columns)`): In fp32.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Levels in int8, of the same shape, and a scale a row.
    """
    scales = np.abs(weight).max(axis=1) / LEVELS
    scales = np.where(scales > 0, scales, 1).astype(np.float32)
    return np.rint(weight / scales[:, None]).astype(np.int8), scales


def _is_table(value: "onnx_ir.Value") -> bool:
    """Whether a weight is read by row, or transposed before it is multiplied with, and used for nothing else."""
    import onnx_ir

    of_two_axes = value.dtype == onnx_ir.DataType.FLOAT and value.shape is not None and len(value.shape) == 2
    return of_two_axes and bool(value.consumers()) and all(_reads_rows(node, value) for node in value.consumers())


def _reads_rows(node: "onnx_ir.Node", table: "onnx_ir.Value") -> bool:
    if node.op_type == "Gather":
        return node.inputs[0] is table and node.attributes.get_int("axis", 0) == 0
    multiplied = [(user.op_type, place) for user, place in node.outputs[0].uses()]
    return node.op_type == "Transpose" and set(multiplied) == {("MatMul", 1)}


def _quantize_table(graph: "onnx_ir.Graph", table: "onnx_ir.Value") -> None:
    """Have 8 bits in the place of a table, and what its users need to compute with them."""
    import onnx_ir

    assert table.const_value is not None and table.name is not None
    parts = dict(zip(("levels", "scales"), rows_in_8_bits(table.const_value.numpy()), strict=True))
    parts["last"] = np.array([-1])
    values = {part: _initializer(graph, f"{table.name}_{part}", array) for part, array in parts.items()}
    for node in list(table.consumers()):
        if node.op_type == "Gather":
            tape = onnx_ir.tape.Tape()
            _replace(graph, node, tape, _read_rows(tape, node, values))
        else:
            node.replace_input_with(0, values["levels"])
            node.outputs[0].dtype = onnx_ir.DataType.INT8
            for product in list(node.outputs[0].consumers()):
                tape = onnx_ir.tape.Tape()
                _replace(graph, product, tape, _multiply(tape, product, values))
    del graph.initializers[table.name]


def _read_rows(tape: "onnx_ir.tape.Tape", node: "onnx_ir.Node", table: dict[str, "onnx_ir.Value"]) -> "onnx_ir.Value":
    """The rows that a Gather reads: levels · scale."""
    import onnx_ir

    ids = node.inputs[1]
    levels = tape.op("Cast", [tape.op("Gather", [table["levels"], ids])], {"to": onnx_ir.DataType.FLOAT})
    scales = tape.op("Unsqueeze", [tape.op("Gather", [table["scales"], ids]), table["last"]])
    return tape.op("Mul", [levels, scales])


def _multiply(tape: "onnx_ir.tape.Tape", node: "onnx_ir.Node", table: dict[str, "onnx_ir.Value"]) -> "onnx_ir.Value":
    """What onnxruntime makes of a MatMul: both factors in 8 bits, the product by the scales of both."""
    import onnx_ir

    states, transposed = node.inputs
    levels, scale, zero = tape.op_multi_out("DynamicQuantizeLinear", [states], num_outputs=3)
    product = tape.op("MatMulInteger", [levels, transposed, zero])
    scales = tape.op("Mul", [scale, table["scales"]])
    return tape.op("Mul", [tape.op("Cast", [product], {"to": onnx_ir.DataType.FLOAT}), scales])


def _initializer(graph: "onnx_ir.Graph", name: str, array: np.ndarray) -> "onnx_ir.Value":
    import onnx_ir

    tensor = onnx_ir.tensor(array, name=name)
    value = onnx_ir.Value(name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _replace(graph: "onnx_ir.Graph", node: "onnx_ir.Node", tape: "onnx_ir.tape.Tape", output: "onnx_ir.Value") -> None:
    """Put the nodes of a tape in the place of one node."""
    old = node.outputs[0]
    output.type = old.type
    output.shape = old.shape
    graph.insert_before(node, tape.nodes)
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    output.name = old.name
    graph.remove(node, safe=True)
