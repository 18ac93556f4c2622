"""Rivals that run in processes of their own: Keras 3 on PyTorch, and the real NeuPy on TensorFlow."""
