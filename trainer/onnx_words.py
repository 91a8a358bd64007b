"""ONNX graphs written by hand, where an exporter's would compute shapes: values with operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Sizes = tuple[int | str, ...]


class Words:
    """A graph in the making: nodes in the order in which they are said."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], onnx.TensorProto] = {}
        self._shapes: dict[str, Value] = {}

    def input(self, name: str, sizes: Sizes) -> "Value":
        """What the graph is given, float32; a size that is a name may be any."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        return Value(self, name)

    def constant(self, content: Any) -> "Value":
        """Numbers of the graph's own; equal ones are kept once."""
        array = np.asarray(content)
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return Value(self, self._constants[key].name)

    def shape_of(self, value: "Value") -> "Value":
        """Its sizes, said once."""
        if value.name not in self._shapes:
            self._shapes[value.name] = self.say("Shape", value)
        return self._shapes[value.name]

    def say(self, operator: str, *inputs: "Value", **attributes: Any) -> "Value":
        """A node of one output."""
        return self.parts(operator, *inputs, count=1, **attributes)[0]

    def parts(
        self, operator: str, *inputs: "Value", count: int, **attributes: Any
    ) -> tuple["Value", ...]:
        """A node of several outputs."""
        names = [f"{operator}_{len(self._nodes)}_{n}" for n in range(count)]
        taken = [value.name for value in inputs]
        self._nodes.append(helper.make_node(operator, taken, names, names[0], **attributes))
        return tuple(Value(self, name) for name in names)

    def model(self, outputs: dict[str, tuple["Value", Sizes]], opset: int) -> onnx.ModelProto:
        """The graph, its outputs by name, each with its sizes; checked."""
        ends = []
        for name, (value, sizes) in outputs.items():
            self._nodes.append(helper.make_node("Identity", [value.name], [name], name))
            ends.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes))
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "graph", self._inputs, ends, constants)
        opsets = [helper.make_opsetid("", opset)]
        version = helper.find_min_ir_version_for(opsets)
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=version)
        onnx.checker.check_model(model, full_check=True)
        return model


@dataclass(frozen=True)
class Value:
    """A tensor of a graph; numbers beside it are constants of float32."""

    words: Words
    name: str

    def __add__(self, other: "Value | float") -> "Value":
        return self.words.say("Add", self, self._value(other))

    def __sub__(self, other: "Value | float") -> "Value":
        return self.words.say("Sub", self, self._value(other))

    def __mul__(self, other: "Value | float") -> "Value":
        return self.words.say("Mul", self, self._value(other))

    def __truediv__(self, other: "Value | float") -> "Value":
        return self.words.say("Div", self, self._value(other))

    def __pow__(self, other: float) -> "Value":
        return self.words.say("Pow", self, self._value(other))

    def __matmul__(self, other: "Value") -> "Value":
        return self.words.say("MatMul", self, other)

    def __gt__(self, other: float) -> "Value":
        return self.words.say("Greater", self, self._value(other))

    def at_least(self, low: float) -> "Value":
        """Clipped from below."""
        return self.words.say("Clip", self, self._value(low))

    def transposed(self, *axes: int) -> "Value":
        """With the axes in another order."""
        return self.words.say("Transpose", self, perm=axes)

    def reshaped(self, *sizes: int) -> "Value":
        """0 keeps a size, -1 takes what is left."""
        return self.words.say("Reshape", self, self._whole(*sizes))

    def like(self, other: "Value") -> "Value":
        """In the shape of another of as many numbers."""
        return self.words.say("Reshape", self, self.words.shape_of(other))

    def split(self, count: int, axis: int = 0) -> "tuple[Value, ...]":
        """In equal parts."""
        return self.words.parts("Split", self, count=count, axis=axis, num_outputs=count)

    def summed(self, *axes: int) -> "Value":
        """Over axes, which stay, of one each."""
        return self.words.say("ReduceSum", self, self._whole(*axes))

    def largest(self) -> "Value":
        """Of all; every axis stays, of one."""
        return self.words.say("ReduceMax", self)

    def repeated_beyond(self, *by: int) -> "Value":
        """Longer by so much at both ends of each axis, where the outermost values go on."""
        return self.words.say("Pad", self, self._whole(*by, *by), mode="edge")

    def cut(self, before: Sequence[int], after: Sequence[int]) -> "Value":
        """Without so many at the beginning and at the end of each axis."""
        ends = (-n if n else np.iinfo(np.int64).max for n in after)
        return self.words.say("Slice", self, self._whole(*before), self._whole(*ends))

    def _whole(self, *numbers: int) -> "Value":
        return self.words.constant(np.array(numbers, np.int64))

    def _value(self, other: "Value | float") -> "Value":
        return other if isinstance(other, Value) else self.words.constant(np.float32(other))


def side_by_side(*values: Value, axis: int = 0) -> Value:
    """Concatenated."""
    return values[0].words.say("Concat", *values, axis=axis)


def total(*values: Value) -> Value:
    """The sum of up to eight values of one shape, in one kernel on a GPU."""
    return values[0].words.say("Sum", *values)


def chosen(condition: Value, one: Value, other: Value) -> Value:
    """`one` where the condition holds, else `other`."""
    return condition.words.say("Where", condition, one, other)
