"""The commands of the command line. Each is a function that adds its parser, with its handler beside it.

Handlers import what they call, so that ``run`` and ``explain`` load no compiler and start at once.
"""
