"""What every Kubeflow component shares: one image, named by version, and nothing installed at run time."""

from __future__ import annotations

import functools

from kfp import dsl

IMAGE = "alm-mta:0.1.0"
"""The image of every step; `alm-mta compile --image` names another, by version or digest."""

component = functools.partial(dsl.component, base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
"""Decorator of a component: it compiles to this project's image and runs in this very environment locally."""
