"""What a run keeps in its output folder: checkpoints, whole however it ends, and the average of its weights."""
