"""``python -m tvm_globalsel``."""

import sys

from tvm_globalsel.cli import main

sys.exit(main())
