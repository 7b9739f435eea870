"""CUDA: the same tasks on NVIDIA GPUs. Schedules bind threads; what they compute is checked through LLVM."""
