"""Kernels: every way an operator can run, as TVM tensor expressions with their schedules.

The package knows TE and ``tvm.s_tir``; it never imports ``tvm_globalsel``.
"""
