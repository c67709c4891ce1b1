"""How the sample inputs and workflows were made."""
