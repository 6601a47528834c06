"""The composition root: builds every object by hand, starts and drains them."""
