"""The engines of ``globalsel bench``, one file each.

An engine file is loaded by path into a process of its own, by any interpreter that has the engine: it imports numpy,
the engine and what converts models for it, but nothing of this package (``globalsel.py`` alone does). It defines

``MODULES``
    names that its interpreter must be able to import, else the engine is listed as missing; imported before a session;
``CONVERTERS`` (optional)
    further such names, which only ``prepare`` imports;
``ENVIRONMENT`` (optional)
    variables to be set before the modules are imported for a session;
``prepare(model, folder, threads)``
    converts the ONNX file ``model`` once, in a process of its own, into files below ``folder`` (an empty one);
``Session(model, folder, threads)``
    loads what was prepared; ``feed(inputs)`` takes the float32 arrays by name, after which it is ready: both are what
    "load" times. ``run()`` is one inference and returns the arrays in the order of the model's outputs.

Whatever any of them raises becomes the reason why the engine is missing from the results.
"""
