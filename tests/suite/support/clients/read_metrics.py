"""Reads a page of metrics on standard input with the parsers of prometheus_client, strictly, and
prints what they found as JSON: name -> [type, unit, help, number of samples]."""

import json
import sys

from prometheus_client import parser as older
from prometheus_client.openmetrics import parser as newer

page = sys.stdin.read()
parser = newer if sys.argv[1] == "openmetrics" else older
found = {}
for family in parser.text_string_to_metric_families(page):
    if family.name in found:
        sys.exit(f"{family.name} is there twice")
    seen = set()
    for sample in family.samples:
        series = (sample.name, tuple(sorted(sample.labels.items())))
        if series in seen:
            sys.exit(f"{series} is there twice")
        seen.add(series)
    found[family.name] = [family.type, family.unit, family.documentation, len(family.samples)]
json.dump(found, sys.stdout)
