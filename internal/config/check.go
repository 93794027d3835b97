package config

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// judge looks at values that must fit each other.
func (l *loader) judge(c *Config) {
	if c.Poll.MaxInterval < c.Poll.MinInterval {
		l.clash("poll.max_interval", "poll.min_interval", func(other string) (string, string) {
			return "is less than poll.min_interval, " + other, "write at least " + other
		})
	}
	l.judgeDirs(c)
	if c.Server.Listen != "" && !listensLocally(c.Server.Listen) && c.Server.TokenFile == "" {
		l.clash("server.listen", "server.token_file", func(string) (string, string) {
			return "is not loopback, and server.token_file is not set", "set it, or listen on 127.0.0.1 behind a reverse proxy"
		})
	}
}

// clash is a problem of two keys that do not fit, told of the one that was set,
// unless one of them has a problem of its own already.
func (l *loader) clash(name, other string, say func(other string) (what, mend string)) {
	if l.bad[name] || l.bad[other] {
		return
	}
	where := l.origins[name]
	if where == "" {
		where = l.origins[other]
	}
	what, mend := say(show(l.values[other]))
	l.problem(Problem{Where: where, Key: name, Value: brief(show(l.values[name]), 200), What: what, Mend: mend})
}

func listensLocally(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && loopback(host)
}

// unitStopTime is TimeoutStopSec of the systemd unit that comes with assetd, and
// stopMargin what a stop needs of it besides shutdown_grace.
const (
	unitStopTime = 60 * time.Second
	stopMargin   = 15 * time.Second
)

// What the most detailed source names as the API's limits: 300 requests a minute
// for one key, 50 at once from one address.
const (
	publishedRate  = 5
	publishedBurst = 50
)

// unwise is what will work and is likely not meant.
func (c *Config) unwise() []Warning {
	var warnings []Warning
	warn := func(when bool, key, format string, args ...any) {
		if when {
			warnings = append(warnings, Warning{Key: key, Text: fmt.Sprintf(format, args...)})
		}
	}
	warn(c.ShutdownGrace > unitStopTime-stopMargin, "shutdown_grace",
		"the systemd unit kills after %s: set its TimeoutStopSec to at least %s", show(unitStopTime), show(c.ShutdownGrace+stopMargin))
	warn(c.API.Rate > publishedRate, "api.rate", "%s requests a second are more than the API's published limit of %d a minute for one key", show(c.API.Rate), 60*publishedRate)
	warn(c.API.Burst > publishedBurst, "api.burst", "%d requests at once are more than the API's published limit of %d", c.API.Burst, publishedBurst)
	warn(endsInPath(strings.TrimRight(c.API.BaseURL, "/"), strings.TrimRight(c.API.RunsPath, "/")), "api.base_url",
		"ends in api.runs_path, which is added once more: the API will know no run")
	warn(c.API.Proxy != "", "api.proxy", "the API is asked through this proxy and is only as reachable as it is")
	if found := c.sources(); len(found) > 1 {
		warn(true, "api.key_file", "the API key is given more than once: it is taken from %s, not from %s", found[0].name, found[1].name)
	}
	warn(openToOthers(c.API.KeyFile), "api.key_file", "%s can be read by every user of this machine: chmod o-rwx it", c.API.KeyFile)
	warnings = append(warnings, c.unwiseDirs()...)
	warn(c.Storage.FileMode&0o600 != 0o600, "storage.file_mode", "%s keeps assetd from reading what it stored", show(c.Storage.FileMode))
	warn(c.Storage.DirMode&0o700 != 0o700, "storage.dir_mode", "%s keeps assetd out of its own directories", show(c.Storage.DirMode))
	warn(c.Storage.FileMode&0o002 != 0, "storage.file_mode", "%s lets every user change stored files", show(c.Storage.FileMode))
	warn(c.Storage.DirMode&0o002 != 0, "storage.dir_mode", "%s lets every user remove stored files", show(c.Storage.DirMode))
	warn(c.Download.Workers > 256, "download.workers", "%d connections at a time are more than most servers bear", c.Download.Workers)
	warn(c.Download.Proxy != "", "download.proxy", "names are resolved by the proxy: assetd cannot keep it from leading to a network that is not public")
	warn(c.Download.Margin > 3*time.Hour, "download.margin", "more than a quarter of the 12 hours that URLs live has no effect")
	warn(c.Download.AllowHTTP, "download.allow_http", "assets and their tokens may cross the network in the clear")
	for _, p := range c.Download.AllowNetworks {
		warn(p.Bits() == 0, "download.allow_networks", "%s is every address: asset URLs may lead anywhere, also to this machine", p)
	}
	return append(warnings, c.unwiseServer()...)
}

// endsInPath reports whether the base URL already has the path that is added to it.
func endsInPath(base, path string) bool {
	if path == autoPath {
		return strings.HasSuffix(base, "/v1/ai/apps/runs") || strings.HasSuffix(base, "/v1/ai/flows/runs")
	}
	return strings.HasSuffix(base, path)
}

func (c *Config) unwiseServer() []Warning {
	var warnings []Warning
	if c.Server.Listen != "" && !listensLocally(c.Server.Listen) {
		warnings = append(warnings, Warning{"server.listen", "reachable from other machines, without TLS: that is a reverse proxy's work"})
	}
	return append(warnings, c.unwiseHook()...)
}

// openToOthers reports whether a file is there and everybody may read it.
func openToOthers(path string) bool {
	if path == "" {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0
}
