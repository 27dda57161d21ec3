"""Benchmarks of xpnn's backends and of the programs that they are measured against."""
