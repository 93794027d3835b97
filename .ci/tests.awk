# tests.awk: what matters of the output of `go test -v`: a line per package as it ends, then
# the first and last lines of each test that failed, and the slowest tests. What other tests
# print, and what rapid draws, is left out: it has hidden failures before.
#
#   go test -v ./... 2>&1 | awk -v slow=FILE -f .ci/tests.awk    FILE gets the slowest tests

function keep(line,   n) {
	if (line ~ /\[rapid\] draw /) return
	n = ++lines[now]
	text[now, n] = substr(line, 1, 400)
	if (n - last > first) delete text[now, n - last]
}

function show(name,   i) {
	if (!lines[name]) return
	report = report "\n-- " $2 " " name "\n"
	for (i = 1; i <= lines[name]; i++) if ((name, i) in text) report = report text[name, i] "\n"
}

BEGIN { first = 10; last = 40 }

/^=== (RUN|CONT|NAME|PAUSE) / { now = $3; next }

/^ *--- (PASS|FAIL|SKIP): / {
	now = $3
	if ($2 == "FAIL:") { failed[++bad] = now; keep($0) }
	if ($2 == "SKIP:") skipped++
	if (now !~ /\//) took[++tests] = substr($NF, 2) + 0 " s " now
	next
}

/^(PASS|FAIL)$/ { now = ""; next }

/^(ok|FAIL|---|\?) *\t/ {
	print substr($0, 1, 200)
	if ($1 == "FAIL") {
		for (i = 1; i <= bad; i++) show(failed[i])
		show("") # builds, TestMain
		if (!bad && now != "") show(now) # it ended the process
	}
	for (i = 1; i <= tests; i++) print took[i], $2 | "sort -rn | head -n 12 >" slow
	split("", lines); split("", text); split("", failed); split("", took)
	bad = tests = 0
	now = ""
	next
}

{ keep($0) }

END {
	if (skipped) print skipped " tests were skipped"
	printf "%s", report
}
