"""A checkpoint as a page: drop a picture, look at its segments, take the result files home."""
