"""What the other programs of this checkout share, and what makes its pages and bundles."""
