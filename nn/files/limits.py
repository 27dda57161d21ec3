"""Limits for untrusted files, enforced before memory is allocated."""

from __future__ import annotations

MIB, GIB = 2**20, 2**30

CONFIG_BYTES = 1 * MIB  # of a run's config.json
HEADER_BYTES = 32 * MIB  # of a model's or checkpoint's header: of a table, a hundred a column
TENSOR_FILE_BYTES = 16 * GIB  # of a whole model or checkpoint
DATA_BYTES = 4 * GIB  # of the numbers in one data file, and of the text of a .csv
DATA_FILES = 64  # in one .npz
ARCHIVE_TABLE_BYTES = 1 * MIB  # of an .npz's own table of contents, before its files are counted
CSV_COLUMNS = 100_000
CSV_LINE = 4 * MIB  # characters; 40 a column where there are most
COMPRESSION = 100  # what a compressed file may grow by; MNIST's grow by 5
ALWAYS_UNPACKED = 16 * MIB  # however much it grows: rows of zeros are no attack
PICTURE_BYTES = 512 * MIB  # of a picture's file; the largest without compression
PICTURE_PIXELS = 64_000_000  # phones make up to 50 million
DOWNLOAD_BYTES = 64 * MIB  # of one file of a data set; the largest has 26
