"""A model -> a folder that ONNX Runtime, OpenVINO or torch runs, by transformers' exporters."""

from .export import FORMATS, ExportSettings, export_model

__all__ = ["FORMATS", "ExportSettings", "export_model"]
