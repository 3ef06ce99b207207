"""Rows measured on a GPU: each program in turn beside the others, with its memory, launches and waits."""
