"""Layers of plain numbers and modules: attention, convolutions, pixel decoders, transformer decoder."""
