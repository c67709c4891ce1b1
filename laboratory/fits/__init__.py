"""Fits of the small linear models that ship with the product."""
