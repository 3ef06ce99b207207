"""Package metadata of modeling-maskformer."""

from pathlib import Path

from setuptools import find_packages, setup

SERVE = [
    "fastapi>=0.115",
    "fastapi-offline>=1.7",
    "prometheus-client>=0.20",
    "python-multipart>=0.0.18",
    "uvicorn>=0.30",
]

setup(
    name="modeling-maskformer",
    version="0.1.0",
    description="MaskFormer for Hugging Face transformers: as the paper has it, fast, in little memory",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",  # as transformers 5.23
    packages=find_packages(include=["modeling_maskformer*", "image_processing*"]),
    # the command is a module of its own, because the package's import takes seconds
    py_modules=["maskformer_command"],
    package_dir={name: name for name in ("modeling_maskformer", "image_processing")} | {"": "scripts"},
    package_data={
        "modeling_maskformer.page": ["*.css", "*.html", "*.js"],
        "modeling_maskformer.training.cards": ["*.jinja"],
        "modeling_maskformer.exporting": ["*.jinja"],
    },
    install_requires=[
        "torch>=2.7",  # the Triton of 2.6 cannot compile the kernel of matching
        "torchvision>=0.22",
        "transformers>=5.23,<6",
        "timm>=1.0.23",  # before it most models cannot be made on the meta device
        "datasets>=4",
        "accelerate>=1.3",  # whose unwrap_model takes what Trainer of transformers 5.23 passes
        "evaluate>=0.4.3",
        "scipy>=1.13",  # the first for NumPy 2
        "safetensors>=0.4.3",
        "huggingface_hub>=1.0",
        "jinja2>=3.1",
        "pycocotools>=2.0.8",
        "numpy>=2",  # beside an older one pyarrow, of which datasets takes the newest, is not imported
        "pillow>=10.3",  # which opens a PNG of 16 bits as one; before 10.1 the default font has one size
        "pyyaml>=6",
    ],
    entry_points={"console_scripts": ["maskformer = maskformer_command:main"]},
    extras_require={
        "app": ["gradio>=6"],
        "charts": ["matplotlib>=3.8"],
        "serve": SERVE,
        "export": [
            "transformers>=5.24",
            "onnx>=1.17",
            "onnxscript>=0.5",
            "onnxruntime>=1.21",
            "openvino>=2025.3",
            "nncf>=2.18",
        ],
        "test": [
            *SERVE,
            "httpx>=0.27",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "setuptools>=77",
            "ruff>=0.9",
            "matplotlib>=3.8",
            "peft>=0.17",
            "markdown-it-py>=3",
            "hypothesis>=6",
        ],
    },
)
