"""Pictures larger than the model's size or memory: predicted in overlapping tiles, whose results become one."""
