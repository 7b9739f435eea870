"""Names in a deployed folder, for those who write and those who read them. Loads no TVM."""

LIBRARY = "model.so"
WEIGHTS = "weights.bin"
PLAN = "plan.json"
#: Version of the plan's form.
PLAN_FORMAT = 3
#: The one function of a library that is no kernel (``large_pages``).
ASK_FOR_LARGE_PAGES = "globalsel_ask_for_large_pages"
