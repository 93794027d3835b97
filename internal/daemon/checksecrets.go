package daemon

import (
	"errors"
	"os/exec"

	"golang.org/x/sys/unix"
)

// secrets looks at the files of tokens and secrets: the daemon does not start where
// one is set and cannot be used. Those of a daemon that runs may be for it alone.
func (k *checker) secrets() {
	c := k.cfg
	for _, s := range []struct {
		key, path string
		read      func() (string, error)
	}{
		{"server.token_file", c.Server.TokenFile, c.Server.Token},
		{"server.add_token_file", c.Server.AddTokenFile, c.Server.AddToken},
		{"webhook.secret_file", c.Webhook.SecretFile, func() (string, error) { _, err := c.Webhook.Keys(); return "", err }},
		{"hook.secret_file", c.Hook.SecretFile, c.Hook.Secret},
	} {
		_, err := s.read()
		switch {
		case err == nil:
		case k.running && errors.Is(unix.Faccessat(unix.AT_FDCWD, s.path, unix.R_OK, unix.AT_EACCESS), unix.EACCES):
		default:
			k.add(s.key, Bad, "mend the file, or take "+s.key+" out of the configuration: assetd run does not start with it", "%v", err)
		}
	}
}

// hook looks whether the program is there that is to be told.
func (k *checker) hook() {
	argv := k.cfg.Hook.Argv()
	if len(argv) == 0 {
		return
	}
	path, err := exec.LookPath(argv[0])
	switch {
	case err == nil:
		k.add("hook.command", Good, "", "%s", path)
	case k.running && errors.Is(err, unix.EACCES):
	default:
		k.add("hook.command", Bad, "write the program's whole path, and let the daemon's user run it: nobody is told until then", "%v", err)
	}
}
