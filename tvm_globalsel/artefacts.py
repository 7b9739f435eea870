"""Names of the files in a deployed folder, for those who write and those who read them. Loads no TVM."""

LIBRARY = "model.so"
WEIGHTS = "weights.bin"
PLAN = "plan.json"
#: Version of the plan's form.
PLAN_FORMAT = 5
