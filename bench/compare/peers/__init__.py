"""Peers of the benchmark, one file each, whose packages are imported on demand."""
