"""Tuning on a machine that has neither compiler nor network: pack kernels here, measure them there.

On the machine with the compiler: ``pack``, ``libraries``, ``runtime_files``. In the bundle too, and therefore free of
the compiler: ``launch`` and ``archive`` (standard library only), ``manifest``, ``run``, ``turns``, ``child``,
``compiler_free``.
"""
