"""A report's forms: HTML, SVG, Markdown, JSON, CSV and terminal.

In: `report.model`. Out: text. Computes no numbers.
"""
