"""Rows of a dataset -> segments, labels, augmented samples and batches."""
