# Sourced by the other scripts: makes .venv from pyproject.toml once, and again when pyproject.toml changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ ! -f .venv/.installed ] || [ pyproject.toml -nt .venv/.installed ]; then
    python=""
    for candidate in python3.12 python3.11 python3 python3.13 python3.10; do
        if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    if [ -z "$python" ]; then
        echo "error: no Python >= 3.10 with the venv module was found; install one (Debian: apt-get install python3-venv)" >&2
        exit 2
    fi
    echo "making .venv with $($python --version) (once; downloads about 200 MB)" >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
    touch .venv/.installed
fi
