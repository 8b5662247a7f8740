"""Training triplets: two frames of memory and a query, drawn, moved, coloured, batched."""
