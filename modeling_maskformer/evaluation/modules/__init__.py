"""The metrics as modules of the `evaluate` library: `evaluate.load(<path of a file of this folder>, id2label=...)`."""
