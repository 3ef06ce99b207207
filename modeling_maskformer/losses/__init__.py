"""Losses: matching, mask classification, mask losses at every pixel or at points, per-pixel cross-entropy."""
