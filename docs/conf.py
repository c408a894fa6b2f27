"""How sphinx builds this site: `make docs`. Nothing is fetched from the network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]

from lightning_neft import __version__  # noqa: E402

project = "lightning_neft"
author = "the authors of lightning_neft"
project_copyright = "the authors of lightning_neft, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "accessible",
    "error_messages",
    "option_tables",
    "recipe_pages",
    "site_pages",
    "notebooks",
]
exclude_patterns = ["_build", "_ext", "_static_root", "_templates"]

myst_enable_extensions = ["colon_fence", "deflist"]
# `page.md#some-heading` is a link that is checked.
myst_heading_anchors = 3

# Docstrings are written in Markdown's way: single backticks are code.
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
# Types stand beside the arguments' texts: in the signature they would hide the names.
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
# Shown by their names, which the page of the API explains.
autodoc_type_aliases = {
    name.rpartition(".")[2]: f"lightning_neft.{name}"
    for name in (
        "data.batching.plan.Batching",
        "data.mixture.MixStrategy",
        "data.mixture.StoppingStrategy",
        "data.tokenization.Task",
        "models.optimizer.OptimizerFactory",
        "models.optimizer.OptimizerName",
        "models.recomputation.Recomputation",
        "models.schedule.LRSchedulerName",
        "models.weights.Quantization",
        "models.weights.DType",
        "noise.embedding.Target",
        "noise.functional.Distribution",
        "noise.injector.Scale",
        "noise.lengths.BatchToMask",
        "noise.lengths.Length",
        "noise.lengths.Scope",
        "noise.schedule.ScheduleName",
    )
}
autodoc_class_signature = "mixed"

# The examples of the docstrings, in the pages as they are built; pytest runs them in their modules.
doctest_global_setup = """
import torch
from torch import nn
from lightning_neft import *
from lightning_neft.callbacks import *
from lightning_neft.data import *
from lightning_neft.models import *
from lightning_neft.noise import *
from lightning_neft.noise.probe import probe
from lightning_neft.saving import *
"""

nitpicky = True
# Names of other packages, one by one: their pages are on the network, and the build uses none.
nitpick_ignore = [
    ("py:class", "abc.ABC"),
    ("py:class", "collections.abc.Callable"),
    ("py:class", "collections.abc.Iterator"),
    ("py:class", "collections.abc.Sequence"),
    ("py:class", "LRSchedulerCallable"),
    ("py:class", "Path"),
    ("py:class", "PreTrainedTokenizerBase"),
    ("py:class", "pathlib.Path"),
    ("py:class", "torch.Tensor"),
    ("py:class", "torch.dtype"),
    ("py:class", "torch.nn.modules.module.Module"),
]

html_theme = "furo"
html_title = "lightning_neft"
# The dark style of the theme underlines the names of modules.
pygments_dark_style = "github-dark"
html_static_path = ["_static"]
# At the root of the site: the index that language models look for (llmstxt.org), and the schema that it names.
html_extra_path = ["_static_root", "../recipes/neft.schema.json"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(HERE / "_static" / "scorer.js")
templates_path = ["_templates"]
# One package: a list of its modules says nothing.
html_domain_indices = False
html_show_sphinx = False
html_copy_source = False

# The prompt of a console or of a doctest is not copied.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
