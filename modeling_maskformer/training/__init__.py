"""Training: the trainer, its optimizer, and a whole run from arguments to model card."""
