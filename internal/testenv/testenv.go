// Package testenv tells tests how much to do. By default `go test ./...` runs what takes a
// minute or two. With ASSETD_TEST_FULL=1 the long tests run as well, properties are tried on
// all their cases, and a test that lacks a tool or a privilege fails instead of being skipped.
package testenv

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

// Full reports whether all tests run, each to its full extent.
func Full() bool { return os.Getenv("ASSETD_TEST_FULL") == "1" }

// Long skips a test that takes long, unless all tests run.
func Long(t testing.TB) {
	t.Helper()
	if !Full() {
		t.Skip("takes long: set ASSETD_TEST_FULL=1 to run it")
	}
}

// Missing skips a test that lacks something of the machine, or fails it where all tests run.
func Missing(t testing.TB, what string) {
	t.Helper()
	if Full() {
		t.Fatalf("missing: %s, and ASSETD_TEST_FULL=1 lets nothing be skipped", what)
	}
	t.Skipf("missing: %s", what)
}

// Cases returns how many cases a test tries: few, or all where all tests run.
func Cases(few, all int) int {
	if Full() {
		return all
	}
	return few
}

// Checks sets how many cases rapid tries for each property of a package, unless all tests
// run. It is called by TestMain, before the flags are parsed: -rapid.checks overrides it.
func Checks(few int) {
	if Full() {
		return
	}
	if err := flag.Set("rapid.checks", strconv.Itoa(few)); err != nil {
		panic(err)
	}
}
