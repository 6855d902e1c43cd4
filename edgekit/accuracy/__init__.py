"""What "accurate enough" means and how it is judged: references, rules, parity, divergence, metrics."""
