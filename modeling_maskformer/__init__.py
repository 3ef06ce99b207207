"""MaskFormer for Hugging Face transformers."""
