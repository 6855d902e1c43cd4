"""One self-contained HTML page of results: no network, no library to install, readable for years.

Plots are drawn in the page by Observable Plot (with D3; both ISC), shipped as its authors publish it: SVG with ARIA
labels and `currentColor`, which follows dark mode and phone widths, at half a megabyte a page. Vega-Lite and Plotly are
two to six times that and need `eval` or a canvas; pictures drawn beforehand by matplotlib would fit no second width and
tell no value. Behind every plot stands its table, so that nothing depends on seeing it, or on JavaScript.
"""

from .page import report_html

__all__ = ["report_html"]
