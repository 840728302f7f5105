"""What Prometheus' own tool cannot know of docker/monitoring: called by check-monitoring.sh.

    check_monitoring.py files RULES    alerts, their tests and the dashboard; writes the expressions
                                       of the dashboard as rules, for promtool
    check_monitoring.py page URL       the page of a server, which is printed

Nothing but Python's own library, which has no YAML: what is read of these files is simple enough.
"""

import json
import re
import sys
import urllib.request
from pathlib import Path

ALERTS = Path("docker/monitoring/alerts.yml")
TESTS = Path("docker/monitoring/alerts_test.yml")
DASHBOARD = Path("docker/monitoring/dashboard.json")
COMPOSE = Path("docker/compose.yml")
DOCUMENT = Path("docs/operations.md")

# Prometheus' own: nobody exports them.
SYNTHETIC = {"up", "ALERTS"}
# Words of PromQL that are followed by labels, which are no metrics.
LABELLED = r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)"
WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "inf", "nan"}
SUFFIXES = ("_bucket", "_sum", "_count")
GRID_COLUMNS = 24

problems = []


def refuse(where, message):
    problems.append(f"{where}: {message}")


def documented():
    """The families in the table of docs/operations.md, with their kinds."""
    rows = re.findall(r"^\| `((?:sundown|process)_\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.M)
    if len(rows) < 10:
        refuse(DOCUMENT, "the table of metrics was not understood")
    return dict(rows)


def family(name, kinds):
    """What a sample belongs to: histograms have three names more than their own."""
    for suffix in SUFFIXES:
        base = name.removesuffix(suffix)
        if base != name and kinds.get(base) == "histogram":
            return base
    return name


def metrics_in(expression):
    """The names of metrics in PromQL: what is left of it without strings, labels and ranges."""
    for noise in (r'"[^"]*"', r"\{[^}]*\}", r"\[[^\]]*\]", LABELLED, r"\boffset\s+\w+"):
        expression = re.sub(noise, " ", expression)
    names = re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", expression)
    return [name for name in names if name.lower() not in WORDS]


def check_expression(where, expression, kinds):
    names = metrics_in(expression)
    if not names:
        refuse(where, f"no metric was found in {expression!r}")
    for name in names:
        if family(name, kinds) not in kinds and name not in SYNTHETIC:
            refuse(where, f"there is no {name} in the table of {DOCUMENT}")
        if kinds.get(name) == "histogram":
            refuse(where, f"{name} is a histogram: its samples are {name}_bucket, _sum and _count")


def alerts():
    """Each alert with its block of lines."""
    blocks = re.split(r"^ *- alert: ", ALERTS.read_text(), flags=re.M)[1:]
    return {block.split("\n", 1)[0].strip(): block for block in blocks}


def expression_of(block):
    """The value of `expr`: on its line, or indented below it."""
    match = re.search(r"^( *)expr: *(.*)\n((?:\1 +.*\n)*)", block, re.M)
    first, below = match[2], match[3]
    return below if first in ("|", ">", ">-", "|-") else first


def check_alerts(kinds):
    found = alerts()
    anchors = headings()
    for name, block in found.items():
        where = f"{ALERTS}: {name}"
        check_expression(where, expression_of(block), kinds)
        for mentioned in re.findall(r"\b(?:sundown|process)_[a-z_]+", block):
            if family(mentioned, kinds) not in kinds:
                refuse(where, f"speaks of {mentioned}, which is not in the table of {DOCUMENT}")
        for field in ("severity", "summary", "description", "runbook"):
            if not re.search(rf"^ *{field}: ", block, re.M):
                refuse(where, f"has no {field}")
        for document, anchor in re.findall(r"runbook: (\S+)#(\S+)", block):
            if document != str(DOCUMENT) or anchor not in anchors:
                refuse(where, f"{document} has no heading #{anchor}")
    check_settings(found)
    check_tests(found)
    print(f"ok: {len(found)} alerts: their metrics, their headings, and two cases for each")


def headings():
    """As anchors, by GitHub's rule."""
    lines = re.findall(r"^#+ (.*)$", DOCUMENT.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def check_settings(found):
    """Numbers that are defaults of the compose file, since no metric has them."""
    compose = COMPOSE.read_text()
    for alert, variable, unit in (
        ("SundownConnectionsNearLimit", "SUNDOWN_MAX_CONNECTIONS", ""),
        ("SundownMemoryNearLimit", "SUNDOWN_MEMORY", "m"),
    ):
        default = re.search(rf"\$\{{{variable}:-(\d+){unit}\}}", compose)[1]
        if not re.search(rf"\* {default}\b", expression_of(found[alert])):
            refuse(ALERTS, f"{alert} is not made from {default}, the {variable} of {COMPOSE}")


def check_tests(found):
    text = TESTS.read_text()
    cases = re.findall(r"alertname: (\w+)\n *exp_alerts:(.*)$", text, re.M)
    for name in found:
        expected = {rest.strip() == "[]" for case, rest in cases if case == name}
        if expected != {True, False}:
            refuse(TESTS, f"{name} needs a case in which it fires, and one in which it does not")
    for name in {name for name, _ in cases} - set(found):
        refuse(TESTS, f"there is no alert {name}: the case would hold for ever")


def panels_of(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def check_grid(panels):
    taken = {}
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > GRID_COLUMNS:
            refuse(DASHBOARD, f"{panel['title']!r} ends beyond column {GRID_COLUMNS}")
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel)
                if other is not panel:
                    refuse(DASHBOARD, f"{panel['title']!r} lies on {other['title']!r}")
                    return


def check_dashboard(kinds, rules):
    dashboard = json.loads(DASHBOARD.read_text())
    panels = list(panels_of(dashboard))
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        refuse(DASHBOARD, f"the ids of panels are not unique: {sorted(ids)}")
    check_grid(panels)
    expressions = []
    for panel in panels:
        where = f"{DASHBOARD}: {panel['title']!r}"
        if panel["type"] == "row":
            continue
        if not panel.get("description") or not panel.get("targets"):
            refuse(where, "has no description, or asks for nothing")
        if panel["datasource"]["uid"] != "${datasource}":
            refuse(where, "takes another data source than the variable")
        expressions += [(where, target["expr"]) for target in panel["targets"]]
    notes = dashboard["annotations"]["list"]
    expressions += [(f"{DASHBOARD}: {note['name']!r}", note["expr"]) for note in notes]
    for where, expression in expressions:
        check_expression(where, expression, kinds)
    write_rules(rules, [expression for _, expression in expressions])
    print(f"ok: {len(panels)} panels, {len(expressions)} expressions: their metrics and their places")


def write_rules(path, expressions):
    """With times in place of Grafana's variables. A string of JSON is one of YAML, too."""
    with open(path, "w", encoding="utf-8") as file:
        file.write("groups:\n  - name: dashboard\n    rules:\n")
        for number, expression in enumerate(expressions):
            expression = expression.replace("$__rate_interval", "1m").replace("$colour", ".*")
            file.write(f"      - record: dashboard:expression:{number}\n")
            file.write(f"        expr: {json.dumps(expression)}\n")


def check_page(url, kinds):
    with urllib.request.urlopen(url, timeout=10) as answer:
        page = answer.read().decode()
    print(page, end="")
    exported = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.M))
    for name in sorted(exported.keys() - kinds.keys()):
        refuse(DOCUMENT, f"{name} is on the page, and not in the table")
    for name in sorted(kinds.keys() - exported.keys()):
        refuse(DOCUMENT, f"{name} is in the table, and not on the page")
    for name in sorted(kinds.keys() & exported.keys()):
        if kinds[name] != exported[name]:
            refuse(DOCUMENT, f"{name} is a {exported[name]} on the page, and a {kinds[name]} here")


def main(what, argument):
    kinds = documented()
    if what == "files":
        check_alerts(kinds)
        check_dashboard(kinds, argument)
    else:
        check_page(argument, kinds)
    for problem in problems:
        print(f"check-monitoring: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
