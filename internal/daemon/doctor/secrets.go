package doctor

import (
	"errors"
	"os/exec"

	"golang.org/x/sys/unix"
)

// secrets checks the files of tokens and secrets: the daemon does not start with one that is
// set and cannot be used. Those of a running daemon may be readable for it alone.
func (d *doctor) secrets() {
	c := d.cfg
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
		case d.running && errors.Is(unix.Faccessat(unix.AT_FDCWD, s.path, unix.R_OK, unix.AT_EACCESS), unix.EACCES):
		default:
			d.add(s.key, Bad, "correct the file, or take "+s.key+" out of the configuration: assetd run does not start with it", "%v", err)
		}
	}
}

// hook checks whether the program of hook.command exists and can be run.
func (d *doctor) hook() {
	argv := d.cfg.Hook.Argv()
	if len(argv) == 0 {
		return
	}
	path, err := exec.LookPath(argv[0])
	switch {
	case err == nil:
		d.add("hook.command", Good, "", "%s", path)
	case d.running && errors.Is(err, unix.EACCES):
	default:
		d.add("hook.command", Bad, "write the program's whole path, and let the daemon's user run it: there are no notifications until then", "%v", err)
	}
}
