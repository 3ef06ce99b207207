"""Inference on pictures: load a checkpoint, predict, draw, and write results to files."""
