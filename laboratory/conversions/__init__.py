"""Published files into the ones that ship."""
