"""Nodes of an ONNX graph from the model's inputs to the network's features."""

from __future__ import annotations

import numpy as np

from ..inputs.table import Table
from ..network.mlp import MLP
from .onnx_graph import OnnxGraph


def input_columns(table: Table) -> dict[str, list[str]]:
    """Return the names of the columns in each input of the model that there is."""
    numbers = [column.name for column in table.columns if column.kind != "category"]
    categories = [column.name for column in table.columns if column.kind == "category"]
    return {name: columns for name, columns in (("numbers", numbers), ("categories", categories)) if columns}


def add_features(graph: OnnxGraph, net: MLP, taken: dict[str, tuple[str, int]]) -> tuple[str, str]:
    """Add the nodes from the model's inputs, `taken`, to the network's features, (batch, features).

    Returns:
        Name of the features, and of the first layer's weight, whose rows are in their order.
    """
    weight = "layers.0.weight"
    if isinstance(net.inputs, Table):
        x, order = _add_table(graph, net.inputs)
        if order == sorted(order):
            return x, weight
        # Runtimes do this once, when they load the model; to order the features would take longer than the layers.
        place = graph.constant("order", order, "int64")
        return x, graph.add("Gather", [weight, place], "layers.0.ordered_weight", axis=0)  # (features, out_features)
    dtype, _ = taken["images"]
    if dtype == net.dtype:
        return "images", weight
    x = graph.cast("images", "pixels")  # (batch, features)
    if net.input_scale != 1:
        x = graph.add("Mul", [x, graph.constant("scale", net.input_scale)], "features")
    return x, weight


def _add_table(graph: OnnxGraph, table: Table) -> tuple[str, list[int]]:
    """Add the nodes of a table; return the name of its features, (batch, features), and which each of them is."""
    blocks: list[str] = []  # (batch, some of the features) each
    order: list[int] = []  # index of each feature in the blocks
    numbers = [k for k, column in enumerate(table.columns) if column.kind != "category"]
    if numbers:
        names, features = _add_numbers(graph, table, numbers)
        blocks += names
        order += features
    encoded: list[str] = []  # (batch, levels) each
    for place, column in zip(table.places, table.columns, strict=True):
        if column.kind == "category":
            index = graph.constant(f"categories.{len(encoded)}.index", len(encoded), "int64")
            texts = graph.add("Gather", ["categories", index], f"categories.{len(encoded)}.texts", axis=1)  # (batch,)
            # The flag is the one-hot feature of the missing text; a text of no training row is 0 in all.
            levels = [*column.levels, *[""] * column.has_flag]
            encoded.append(
                graph.add(
                    "OneHotEncoder", [texts], f"categories.{len(encoded)}.levels",
                    domain="ai.onnx.ml", cats_strings=levels, zeros=1,
                )
            )  # fmt: skip
            order += range(place, place + len(levels))
    if encoded:
        levels_of_all = graph.concat(encoded, "levels")  # float32
        blocks.append(levels_of_all if graph.dtype == "float32" else graph.cast(levels_of_all, "categories.features"))
    return graph.concat(blocks, "features"), order


def _add_numbers(graph: OnnxGraph, table: Table, numbers: list[int]) -> tuple[list[str], list[int]]:
    """Add the nodes of the numbers and their flags, in float64 up to the last cast.

    Args:
        graph: the graph.
        table: the table.
        numbers: indices of the columns that are numbers or truth values.

    Returns:
        Names of the blocks, and the index of each feature in them.
    """
    columns = [table.columns[k] for k in numbers]
    order = [table.places[k] for k in numbers]
    x = "numbers"  # (batch, numbers)
    flagged = [k for k, column in enumerate(columns) if column.has_flag]
    if flagged or any(column.fill is not None for column in columns):
        graph.add("IsNaN", [x], "is_missing")
        fills = [np.nan if column.fill is None else column.fill for column in columns]
        x = graph.add("Where", ["is_missing", graph.constant("fill", fills, "float64"), x], "filled")
    if any((column.mean, column.std) != (0, 1) for column in columns):
        mean = graph.constant("mean", [column.mean for column in columns], "float64")
        factor = graph.constant("factor", [1 / column.std for column in columns], "float64")
        x = graph.add("Mul", [graph.add("Sub", [x, mean], "centred"), factor], "standardized")
    blocks = [x if graph.dtype == "float64" else graph.cast(x, "numbers.features")]
    if flagged:
        index = graph.constant("flagged", flagged, "int64")
        blocks.append(graph.cast(graph.add("Gather", ["is_missing", index], "is_flagged", axis=1), "flags"))
        order += [order[k] + 1 for k in flagged]
    return blocks, order
