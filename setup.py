# SPDX-License-Identifier: Apache-2.0
# Copyright the udpgrm authors
"""What pyproject.toml cannot say: bpf/ goes into the wheel as a part of the package."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["udpgrm", "udpgrm.*"]), "udpgrm.bpf"],
    package_dir={"udpgrm.bpf": "bpf"},
    package_data={"udpgrm": ["**/*.json", "servers/*.yaml"], "udpgrm.bpf": ["**/*"]},
)
