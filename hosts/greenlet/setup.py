# SPDX-License-Identifier: MIT
"""The extension module; pyproject.toml says the rest. INCLUDE is the directory of aioshim.h."""
import os

import greenlet
from setuptools import Extension, setup

here = os.path.dirname(os.path.abspath(__file__))
include = os.environ.get("INCLUDE", os.path.join(here, "../../shim/include"))
headers = os.path.dirname(greenlet.__path__[0])

setup(
    ext_modules=[
        Extension(
            "_aioshim_gevent",
            ["_aioshim_gevent.c"],
            include_dirs=[include, headers, os.path.join(here, "../template")],
        )
    ]
)
