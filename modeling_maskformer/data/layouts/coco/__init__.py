"""COCO's JSON files -> rows of objects, or of maps with a list of their segments; `coco_files.py` is the door."""
