"""Folders of images and masks in the layouts of people and benchmarks -> rows; `picture_tables.py` is the door."""
