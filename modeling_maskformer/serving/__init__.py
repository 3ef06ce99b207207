"""A checkpoint as an HTTP service: pictures in, segments out."""
