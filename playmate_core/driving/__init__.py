"""Film to motion: whose head moves how in a driving clip."""
