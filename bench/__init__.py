"""Benchmarks of xpnn's backends against other libraries."""
