"""Figures of the product, and pictures to look at beside them."""
