"""The prediction of many pictures: shared by processes, written as it is done, gone on with, joined at the end."""
