package main

import (
	"html"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/simulator"
	"github.com/assetd/assetd/internal/testenv"
)

// block is a shell text of a page.
type block struct{ page, text string }

func shellBlocks(t *testing.T) (blocks []block) {
	t.Helper()
	for name, text := range testenv.Documents(t, "../..") {
		for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
			blocks = append(blocks, block{name, m[1]})
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return strings.Compare(a.page+a.text, b.page+b.text) })
	if len(blocks) < 20 {
		t.Fatalf("only %d blocks found", len(blocks))
	}
	return blocks
}

// commandsOf returns the simple commands of a shell text, each as its words: without
// comments, leading assignments, redirections and quotes.
func commandsOf(text string) (commands [][]string) {
	text = regexp.MustCompile(`(?m)(^|\s)#.*$`).ReplaceAllString(text, "")
	text = regexp.MustCompile(`(&&|\|\|?|\\)\n`).ReplaceAllString(text, "$1 ")
	word := regexp.MustCompile(`&&|\|\||[;&|\n]|(?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^\s;&|'"])+`)
	var words []string
	end := func() {
		for len(words) > 0 && regexp.MustCompile(`^\w+=`).MatchString(words[0]) {
			words = words[1:]
		}
		if len(words) > 0 {
			commands = append(commands, words)
		}
		words = nil
	}
	for _, w := range word.FindAllString(text, -1) {
		switch {
		case strings.Trim(w, ";&|\n") == "":
			end()
		case strings.ContainsRune("<>", rune(w[0])):
		default:
			words = append(words, strings.NewReplacer(`"`, "", `'`, "").Replace(w))
		}
	}
	end()
	return commands
}

// ours returns the arguments of assetd in a command; nil if it does not run assetd.
func ours(words []string) []string {
	if words[0] == "go" && len(words) > 2 && words[1] == "run" && words[2] == "./cmd/assetd" {
		return words[3:]
	}
	for i, w := range words {
		wrapped := words[0] == "sudo" && words[1] == "-u" && i == 3 || words[0] == "docker" && w == "/assetd"
		if path.Base(w) == "assetd" && (i == 0 || wrapped) {
			return words[i+1:]
		}
	}
	return nil
}

// parse reports whether a command takes these arguments and flags. It runs nothing.
func parse(args []string) error {
	root := newRoot(&app{system: system{environ: os.Environ}, warned: map[string]bool{}}, io.Discard)
	root.InitDefaultHelpCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help, _ := cmd.Flags().GetBool("help"); help {
		return nil
	}
	if cmd == root && cmd.Flags().NArg() > 0 {
		return unknownCommand(root, cmd.Flags().Arg(0))
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

func TestDocuments_NameOnlyCommandsAndFlagsThatExist(t *testing.T) {
	found := 0
	check := func(page string, args []string) {
		found++
		if err := parse(args); err != nil {
			t.Errorf("%s: assetd %s: %v", page, strings.Join(args, " "), err)
		}
	}
	for _, b := range shellBlocks(t) {
		for _, words := range commandsOf(b.text) {
			if args := ours(words); len(args) > 0 {
				check(b.page, args)
			}
		}
	}
	inText := regexp.MustCompile("`assetd ([^`]+)`")
	for name, text := range testenv.Documents(t, "../..") {
		for _, m := range inText.FindAllStringSubmatch(text, -1) {
			args := strings.Fields(m[1])
			if len(args) == 1 { // the command by its name
				args = append(args, "--help")
			}
			check(name, args)
		}
	}
	if found < 60 {
		t.Errorf("only %d commands found", found)
	}
	for command, args := range map[string]string{
		"go run ./cmd/assetd demo --keep": "demo --keep", "sudo -u assetd assetd check && x": "check", "A=b assetd list": "list",
		"docker compose exec assetd /assetd add x": "add x",
	} {
		if got := strings.Join(ours(commandsOf(command)[0]), " "); got != args {
			t.Errorf("%s: runs assetd %q, found %q", command, args, got)
		}
	}
	for _, wrong := range []string{"lst", "list --stat partial", "show", "add --label"} {
		if parse(strings.Fields(wrong)) == nil {
			t.Errorf("assetd %s is not seen as wrong", wrong)
		}
	}
}

func TestDocuments_NameOnlyFilesAndUnitsThatExist(t *testing.T) {
	made := []string{"deploy/api-key", "deploy/token"} // by the commands themselves
	for _, b := range shellBlocks(t) {
		for _, words := range commandsOf(b.text) {
			if words[0] == "systemctl" {
				for _, unit := range words[2:] {
					if unit != "--now" && unit != "assetd" {
						t.Errorf("%s: %s: there is no unit %s", b.page, strings.Join(words, " "), unit)
					}
				}
			}
			for _, w := range words {
				w = strings.TrimSuffix(w, "/...")
				if !regexp.MustCompile(`^(\./)?(deploy|configs|internal|cmd|\.ci)/`).MatchString(w) || slices.Contains(made, w) {
					continue
				}
				if _, err := os.Stat(filepath.Join("..", "..", w)); err != nil {
					t.Errorf("%s: %s: %v", b.page, strings.Join(words, " "), err)
				}
			}
		}
	}
}

func TestDocuments_ShellBlocksParse(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		testenv.Missing(t, "bash")
	}
	for _, b := range shellBlocks(t) {
		cmd := exec.Command("bash", "-n")
		cmd.Stdin = strings.NewReader(b.text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s\n%s", b.page, err, out, b.text)
		}
	}
}

// shape returns a line without what differs between two runs of the demo: IDs, numbers,
// paths and the width of columns.
func shape(line string) string {
	line = regexp.MustCompile(`/\S*assetd-demo-\d+`).ReplaceAllString(line, "DIR")
	line = regexp.MustCompile(`\b[0-9A-Za-z]{10}\b`).ReplaceAllString(line, "ID") // and a word as long
	line = regexp.MustCompile(`\d+(\.\d+)?`).ReplaceAllString(line, "N")
	return strings.Join(strings.Fields(line), " ")
}

func TestDocuments_TheRecordingIsWhatTheDemoPrints(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("assetd", "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+shortDir(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	printed := map[string]bool{"$ assetd demo": true, "⋮": true} // the prompt; the tree of files is left out
	for line := range strings.Lines(string(out)) {
		printed[shape(line)] = true
	}
	recording, err := os.ReadFile(filepath.Join("..", "..", ".github", "demo.svg"))
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`<text[^>]*>([^<]*)</text>`).FindAllStringSubmatch(string(recording), -1)
	if len(lines) < 30 {
		t.Fatalf("only %d lines are recorded", len(lines))
	}
	for _, m := range lines {
		if line := html.UnescapeString(m[1]); !printed[shape(line)] {
			t.Errorf("the demo does not print %q: record it again, or correct .github/demo.svg", line)
		}
	}
}

func TestDocuments_TheREADMEShowsTheColumnsOfList(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	if err := r.sim.AddRun("good000001", simulator.App("app1"), simulator.Image("a", 9000)); err != nil {
		t.Fatal(err)
	}
	p := r.start().ready()
	r.handIn([]run.ID{"good000001"})
	r.waitSettled(1, time.Minute)
	out, _, _ := r.output("list")
	p.stop()
	head, _, _ := strings.Cut(out, "\n")
	columns := strings.Join(strings.Fields(head), " ")
	for line := range strings.Lines(testenv.Documents(t, "../..")["README.md"]) {
		if strings.Join(strings.Fields(line), " ") == columns {
			return
		}
	}
	t.Errorf("the README shows another head than: %s", head)
}

func TestDocuments_ExitCodesAreThoseOfTheCode(t *testing.T) {
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \| \S`).FindAllStringSubmatch(testenv.Documents(t, "../..")["deploy/OPERATIONS.md"], -1) {
		got = append(got, m[1])
	}
	var want []string
	for _, code := range []int{exitDone, exitError, exitUsage, exitLost, exitRunFailed, exitTimeout, exitConfig, exitInterrupted} {
		want = append(want, strconv.Itoa(code))
		if !regexp.MustCompile(`(?m)(^|, |\n)` + strconv.Itoa(code) + ` \w`).MatchString(manual) {
			t.Errorf("the manual does not name the exit code %d", code)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("OPERATIONS.md names the exit codes %v, there are %v", got, want)
	}
}
