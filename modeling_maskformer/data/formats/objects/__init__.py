"""Annotations that list objects, each with a mask of its own that may overlap others -> segments."""
