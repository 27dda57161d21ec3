"""Runs of `xpnn` on small tables, for the tests of the command line."""

import json
from pathlib import Path

import numpy as np
import polars as pl
from click.testing import CliRunner, Result
from xpnn import nn
from xpnn.nn.cli.app import xpnn
from xpnn.nn.inputs.table import Table

FAST = ["--backend", "numpy", "--epochs"]
CITIES, CLASSES = ("bern", "oslo", "rome"), ("high", "low", "mid")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(xpnn, list(map(str, arguments)))


def done(*arguments: str | Path) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def figures(*arguments: str | Path) -> dict:
    return json.loads(done(*arguments, "--json").stdout)


def mixed(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return numbers, categories and truth values, some missing, and the class that follows from them."""
    rng = np.random.default_rng(seed)
    age, income = rng.integers(18, 80, rows), rng.normal(50, 20, rows).round(2)
    city, member = rng.integers(0, 3, rows), rng.random(rows) < 0.5
    score = (age - 49) / 18 + (income - 50) / 20 + (city == 1) * 2 + member
    return pl.DataFrame({
        "Id": 1000 + 7 * np.arange(rows),
        "age": age,
        "income": [None if hole else value for hole, value in zip(rng.random(rows) < 0.1, income, strict=True)],
        "city": [CITIES[k] for k in city],
        "member": member,
        "label": np.where(score > 2, "high", np.where(score > 0.5, "mid", "low")),
    })  # fmt: skip


def prices(rows: int, seed: int = 0) -> pl.DataFrame:
    """Return a category, a number, and a price that follows from them."""
    rng = np.random.default_rng(seed)
    size, kind = rng.uniform(20, 200, rows).round(1), rng.integers(0, 2, rows)
    return pl.DataFrame({
        "size": size, "kind": [("flat", "house")[k] for k in kind], "price": (1000 * size * (1 + kind)).round(),
    })  # fmt: skip


def written(frame: pl.DataFrame, name: str = "new.csv") -> str:
    frame.write_parquet(name) if name.endswith(".parquet") else frame.write_csv(name)
    return name


def network(folder: Path) -> nn.MLP:
    return nn.load(folder / "model.safetensors", backend="numpy")


def table(folder: Path) -> Table:
    inputs = network(folder).inputs
    assert isinstance(inputs, Table)
    return inputs
