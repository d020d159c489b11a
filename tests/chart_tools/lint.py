"""Lint the chart by Helm, warnings as errors; run with the chart's own environment: `lint.py CHART VALUES`."""

import sys
from pathlib import Path

import helm_python
import yaml

if __name__ == "__main__":
    values = yaml.safe_load(Path(sys.argv[2]).read_text())
    report = helm_python.lint(sys.argv[1], values, strict=True)
    # An icon is recommended only.
    found = [each for each in report["messages"] if "icon is recommended" not in each["error"]]
    print("\n".join(each["error"] for each in found))
    sys.exit(bool(found))
