"""Measure only what can change the answer: bounds, predictions, and the loop between them and the solver."""
