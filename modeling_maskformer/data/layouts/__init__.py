"""Where a dataset keeps its files: Hub names and folders in the layouts of many tools -> rows and class names."""
