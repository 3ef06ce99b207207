"""What a prediction calls its files and folders in the output folder, of which all else is the user's."""

OVERLAYS = "overlays"
FOLDERS = {"semantic": "class_ids", "panoptic": "panoptic"}  # of each picture's own file; instances have none
SUMMARIES = {"semantic": "classes.json", "instance": "instances.json", "panoptic": "panoptic.json"}
FAILURES = "failures.json"
RECORDS = "records"  # the folder of all records
SETTINGS = "settings.json"  # in that folder
RESULT_FOLDERS = (OVERLAYS, *FOLDERS.values(), RECORDS)
