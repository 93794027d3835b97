package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun_NamesSecretsTheDaemonWouldNotStartWith(t *testing.T) {
	data := machine(t)
	short := filepath.Join(data, "short")
	if err := os.WriteFile(short, []byte("secret!"), 0o600); err != nil {
		t.Fatal(err)
	}
	found := checks(t, data, "offline", "server.token_file="+short, "server.add_token_file="+data+"/none",
		"webhook.secret_file="+short, "hook.url=https://hooks.example/", "hook.secret_file="+data+"/none", "hook.command="+data+"/none --told")
	for about, text := range map[string]string{
		"server.token_file":     "can be guessed",
		"server.add_token_file": "no such file",
		"webhook.secret_file":   "can be guessed",
		"hook.secret_file":      "no such file",
		"hook.command":          "no such file",
	} {
		found[about].is(t, Bad, text)
		if strings.Contains(found[about].Text, "secret!") {
			t.Errorf("%s shows the secret: %s", about, found[about].Text)
		}
	}
}

func TestRun_FindsTheProgramOfAHook(t *testing.T) {
	found := checks(t, machine(t), "offline", "hook.command=sh -c true")
	found["hook.command"].is(t, Good, "/sh")
}
