"""HTML pages about data sets and runs: one file each, readable without a network."""

from d2ext.pages import pixel_sections  # noqa: F401  (registers sections of the run page)
from d2ext.pages.run_page import register_results_section

__all__ = ["register_results_section"]
