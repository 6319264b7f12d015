#!/bin/sh
# Records the demo as docs/demo.svg: what it prints on a terminal, with its colours, as text in a picture.
#
#   ci/session.sh [PROGRAM]      without one, the release build is made and recorded
set -eu
cd "$(dirname "$0")/.."
program=${1:-}
if [ -z "$program" ]; then
    cargo build --release --locked
    program=${CARGO_TARGET_DIR:-target}/release/cofferdam
fi
recorded=$(mktemp)
trap 'rm -f "$recorded"' EXIT
# Colours although this is no terminal.
CLICOLOR_FORCE=1 "$program" demo >"$recorded"
{
    printf '$ cofferdam demo\n'
    cat "$recorded"
} | LC_ALL=C.UTF-8 awk '
function escape(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); gsub(/>/, "\\&gt;", text); return text }
# Escape sequences become spans; only those that the program uses are known.
function spans(line,    out, part, code, open, class) {
    out = ""; class = ""
    while (match(line, /\033\[[0-9;]*m/)) {
        part = substr(line, 1, RSTART - 1)
        if (part != "") out = out (class == "" ? escape(part) : "<tspan class=\"" class "\">" escape(part) "</tspan>")
        code = substr(line, RSTART + 2, RLENGTH - 3)
        if (code == "0" || code == "") class = ""
        else if (code ~ /(^|;)32$/) class = "good"
        else if (code ~ /(^|;)31$/) class = "bad"
        else if (code == "1") class = class == "" ? "title" : class
        else if (code == "2") class = "quiet"
        line = substr(line, RSTART + RLENGTH)
    }
    if (line != "") out = out (class == "" ? escape(line) : "<tspan class=\"" class "\">" escape(line) "</tspan>")
    return out
}
{ lines[NR] = spans($0) }
END {
    height = NR * 17 + 32
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 700 %d\" width=\"700\" role=\"img\" aria-label=\"cofferdam demo, recorded\">\n", height
    print "<!-- Written by ci/session.sh from a real run. -->"
    print "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}.good{fill:#8fd694;font-weight:bold}.bad{fill:#ff8f8f;font-weight:bold}.title{fill:#fff;font-weight:bold}.quiet{fill:#8a94a6}</style>"
    printf "<rect width=\"700\" height=\"%d\" rx=\"8\" fill=\"#14181f\"/>\n", height
    for (n = 1; n <= NR; n++) if (lines[n] != "") printf "<text xml:space=\"preserve\" x=\"16\" y=\"%d\">%s</text>\n", n * 17 + 12, lines[n]
    print "</svg>"
}' >docs/demo.svg
echo "docs/demo.svg: $(grep -c '<text' docs/demo.svg) lines" >&2
