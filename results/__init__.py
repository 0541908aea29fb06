"""Records of finished cells, and every table and plot as a pure function of them."""
