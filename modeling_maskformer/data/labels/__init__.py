"""Which id in a dataset's annotations means which class of the model."""
