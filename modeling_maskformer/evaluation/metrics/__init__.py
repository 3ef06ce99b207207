"""The metrics themselves: of masks as integer maps or run lengths, each a sum over images that can be added up."""
