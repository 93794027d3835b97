package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestReadme_NamesOnlyFlagsAndMeasurementsThatExist(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^go run \./internal/bench *([^#\n]*)`).FindAllStringSubmatch(string(data), -1)
	if len(commands) < 4 {
		t.Fatalf("only %d commands found", len(commands))
	}
	for _, c := range commands {
		o, err := parse(strings.Fields(c[1]), io.Discard)
		if err == nil {
			_, err = choose(o.names)
		}
		if err != nil {
			t.Errorf("%s: %v", c[0], err)
		}
	}
	for _, m := range all() {
		if !strings.Contains(string(data), "| "+m.name+" |") {
			t.Errorf("README.md has no result of %s", m.name)
		}
	}
}
