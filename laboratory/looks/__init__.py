"""Sheets of pictures by which the drawing is judged: by eye, beside what others draw of the same."""
