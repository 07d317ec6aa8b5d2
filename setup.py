"""What pyproject.toml cannot say: the packages are all that are found, and the folder ``tune_configs`` as one more."""

from setuptools import find_namespace_packages, setup

FOUND = find_namespace_packages(include=["raydistill", "raydistill.*"], exclude=["*.__pycache__"])

setup(packages=[*FOUND, "raydistill.tune_configs"], package_dir={"raydistill.tune_configs": "tune_configs"})
