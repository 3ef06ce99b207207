"""Samples -> random views for training -> batches."""
