package server_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// deployed is the path of a file below deploy.
func deployed(name string) string { return filepath.Join("..", "..", "deploy", name) }

// series are the metrics there are: the values of each label, by name.
func series(t *testing.T) map[string]map[string][]string {
	t.Helper()
	m := server.NewMetrics("1.2.3")
	m.Watch(full())
	m.Tell(run.Event{Kind: run.BackupMade})
	text, _ := scrape(t, m)
	line := regexp.MustCompile(`(?m)^(assetd_[a-z_]+)(?:\{(.*)\})? `)
	pair := regexp.MustCompile(`(\w+)="([^"]*)"`)
	found := map[string]map[string][]string{}
	for _, l := range line.FindAllStringSubmatch(text, -1) {
		if found[l[1]] == nil {
			found[l[1]] = map[string][]string{"job": nil, "instance": nil}
		}
		for _, p := range pair.FindAllStringSubmatch(l[2], -1) {
			found[l[1]][p[1]] = append(found[l[1]][p[1]], p[2])
		}
	}
	if len(found) < 50 {
		t.Fatalf("only %d metrics", len(found))
	}
	return found
}

// judge holds an expression against the metrics there are, and gives the labels that
// its result can have.
func judge(t *testing.T, where, expr string, all map[string]map[string][]string) (labels []string) {
	t.Helper()
	selector := regexp.MustCompile(`\b(assetd_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"`)
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		known, ok := all[s[1]]
		if !ok {
			t.Errorf("%s: there is no metric %s", where, s[1])
			continue
		}
		for l := range known {
			labels = append(labels, l)
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			values, ok := known[m[1]]
			if !ok {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
			if m[1] == "job" || m[1] == "instance" {
				continue
			}
			for _, v := range strings.Split(m[3], "|") {
				if !slices.Contains(values, v) {
					t.Errorf("%s: %s is never %s=%q", where, s[1], m[1], v)
				}
			}
		}
	}
	for _, by := range regexp.MustCompile(`\b(?:by|on)\s*\(([^)]*)\)`).FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.FieldsFunc(by[1], func(r rune) bool { return r == ',' || r == ' ' }) {
			if !slices.Contains(labels, l) {
				t.Errorf("%s: no metric in %s has the label %s", where, expr, l)
			}
		}
	}
	if by := regexp.MustCompile(`^\s*sum by \(([^)]*)\)`).FindStringSubmatch(expr); by != nil {
		return strings.Split(by[1], ", ")
	}
	return append(labels, "job", "instance")
}

// rule is an alert as it stands in its file.
type rule struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []rule {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	unmarshal(t, "prometheus/alerts.yaml", &file)
	var all []rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("only %d alerts", len(all))
	}
	return all
}

func unmarshal(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(deployed(name))
	if err == nil {
		err = yaml.Unmarshal(data, into) // JSON is YAML, too
	}
	if err != nil {
		t.Fatal(err)
	}
}

// operations is the page with the metrics, the alerts and the runbook.
func operations(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(deployed("OPERATIONS.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// runbook is the address of a section of that page: deploy/OPERATIONS.md where the
// project is hosted, and the anchor of the section's heading.
func runbook(alert string) string {
	return "https://github.com/assetd/assetd/blob/main/deploy/OPERATIONS.md#" + strings.ToLower(alert)
}

func TestAlertsAreMadeOfMetricsThatExistAndSayWhatToDo(t *testing.T) {
	all := series(t)
	sections := map[string]string{} // severity, by alert
	for _, m := range regexp.MustCompile(`(?m)^### (Assetd\w+)\n\n(\w+)\. `).FindAllStringSubmatch(operations(t), -1) {
		sections[m[1]] = strings.ToLower(m[2])
	}
	for _, a := range alerts(t) {
		labels := judge(t, a.Alert, a.Expr, all)
		severity := a.Labels["severity"]
		if severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity %q", a.Alert, severity)
		}
		for _, name := range []string{"summary", "description", "runbook_url"} {
			text := a.Annotations[name]
			if text == "" {
				t.Errorf("%s has no %s", a.Alert, name)
			}
			for _, l := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(text, -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("%s: its %s names the label %s, which its expression has not", a.Alert, name, l[1])
				}
			}
		}
		if got, ok := sections[a.Alert]; !ok || got != severity {
			t.Errorf("OPERATIONS.md has no section %s that begins with its severity, %s: %q", a.Alert, severity, got)
		}
		if got, want := a.Annotations["runbook_url"], runbook(a.Alert); got != want {
			t.Errorf("%s: its runbook_url is %s, want %s", a.Alert, got, want)
		}
		delete(sections, a.Alert)
	}
	for name := range sections {
		t.Errorf("OPERATIONS.md has a section %s, and there is no such alert", name)
	}
}

func TestEveryMetricIsExplainedOnThePageForOperators(t *testing.T) {
	m := server.NewMetrics("1.2.3")
	m.Watch(full())
	m.Tell(run.Event{Kind: run.BackupMade})
	text, _ := scrape(t, m)
	exported := map[string]bool{}
	for _, l := range regexp.MustCompile(`(?m)^# TYPE (assetd_\w+) `).FindAllStringSubmatch(text, -1) {
		exported[l[1]] = true
	}
	if len(exported) < 50 {
		t.Fatalf("only %d metrics", len(exported))
	}
	page := operations(t)
	explained := map[string]bool{}
	for _, l := range regexp.MustCompile("(?m)^\\| `(assetd_\\w+)` \\| \\S").FindAllStringSubmatch(page, -1) {
		if explained[l[1]] {
			t.Errorf("%s is explained twice", l[1])
		}
		explained[l[1]] = true
	}
	for name := range exported {
		if !explained[name] {
			t.Errorf("%s is not in the tables of OPERATIONS.md", name)
		}
	}
	for name := range explained {
		if !exported[name] {
			t.Errorf("OPERATIONS.md explains %s, and there is no such metric", name)
		}
	}
}

func TestEveryAlertHasATestThatFiresAndOneThatDoesNot(t *testing.T) {
	var file struct {
		Tests []struct {
			Rules []struct {
				Alert string `yaml:"alertname"`
				Fired []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	unmarshal(t, "prometheus/alerts_test.yaml", &file)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		fired := map[string]bool{}
		for _, r := range test.Rules {
			fired[r.Alert] = fired[r.Alert] || len(r.Fired) > 0
		}
		for name, did := range fired {
			fires[name] = fires[name] || did
			quiet[name] = quiet[name] || !did
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !quiet[a.Alert] {
			t.Errorf("%s: a test where it fires: %v, one where it does not: %v", a.Alert, fires[a.Alert], quiet[a.Alert])
		}
	}
}

// panel is a panel of the dashboard.
type panel struct {
	Title   string
	Type    string
	Targets []struct{ Expr, LegendFormat string }
	Grid    struct{ X, Y, W, H int } `json:"gridPos"`
}

func TestTheDashboardIsMadeOfMetricsThatExist(t *testing.T) {
	data, err := os.ReadFile(deployed("grafana/assetd.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID    string
		Panels []panel
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	all := series(t)
	exprs, filled := 0, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			exprs++
			labels := judge(t, p.Title, target.Expr, all)
			for _, l := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("%s: its legend names the label %s, which %s has not", p.Title, l[1], target.Expr)
				}
			}
		}
		for x := p.Grid.X; x < p.Grid.X+p.Grid.W; x++ {
			for y := p.Grid.Y; y < p.Grid.Y+p.Grid.H; y++ {
				if under := filled[[2]int{x, y}]; under != "" || x >= 24 {
					t.Fatalf("%s lies over %q, or beyond the edge", p.Title, under)
				}
				filled[[2]int{x, y}] = p.Title
			}
		}
	}
	if dashboard.UID != "assetd" || exprs < 40 {
		t.Errorf("%s with %d expressions", dashboard.UID, exprs)
	}
}
