package config

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration in force as YAML, each key with where its value
// comes from, secrets masked.
func (c *Config) Print(w io.Writer) error {
	var b strings.Builder
	file := c.file
	if file == "" {
		file = "none"
	}
	fmt.Fprintf(&b, "# the configuration in force; file: %s\n", file)
	fmt.Fprintf(&b, "# API key: %s\n", c.keyFrom())
	section := ""
	for _, k := range table() {
		in, name := cutLast(k.name)
		if in != section {
			section = in
			fmt.Fprintf(&b, "\n%s:\n", section)
		}
		if section != "" {
			name = "  " + name
		}
		fmt.Fprintf(&b, "%-52s # %s\n", name+": "+k.masked(c.values[k.name]), c.from(k))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// from is where the key's value comes from.
func (c *Config) from(k key) string {
	switch from := c.origins[k.name]; {
	case from != "":
		return from
	case k.name == "data_dir" && strings.HasPrefix(c.env["STATE_DIRECTORY"], "/"):
		return "default, from $STATE_DIRECTORY"
	default:
		return "default"
	}
}

// masked is the value as it can be shown, in YAML.
func (k key) masked(v any) string {
	text, ok := v.(string)
	if !ok {
		return show(v)
	}
	if k.kind.hide != nil && text != "" {
		text = k.kind.hide(text)
	}
	quoted, err := yaml.Marshal(text)
	if err != nil || strings.Count(string(quoted), "\n") != 1 {
		return strconv.Quote(text) // several lines: JSON's quotes are YAML's, too
	}
	return strings.TrimSuffix(string(quoted), "\n")
}

// show is a value as it stands in a file.
func show(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return showDuration(v)
	case fs.FileMode:
		return fmt.Sprintf("%04o", uint32(v))
	case int64:
		return showBytes(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []netip.Prefix:
		return strings.ReplaceAll(fmt.Sprint(v), " ", ", ")
	default:
		return fmt.Sprint(v)
	}
}

// showDuration is Go's notation without units that are zero: 72h, not 72h0m0s.
func showDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// showBytes is a size in the largest unit that needs no fraction.
func showBytes(n int64) string {
	if n == 0 {
		return "0B"
	}
	best, number := "B", n
	for i, unit := range []string{"kB", "MB", "GB", "TB", "PB"} {
		if each := int64(math.Pow10(3 * (i + 1))); n%each == 0 {
			best, number = unit, n/each
		}
	}
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if each := int64(1) << (10 * (i + 1)); n%each == 0 && n/each < number {
			best, number = unit, n/each
		}
	}
	return strconv.FormatInt(number, 10) + best
}

const mask = "xxxxx"

// hideURL leaves scheme, host and path of a URL: a user, a query and a fragment
// may be secrets. Text that is no URL stays, unless it may hold a user.
func hideURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil && strings.ContainsAny(text, "@?"), err == nil && u.Host == "" && strings.Contains(text, "@"):
		return notShown
	case err != nil || u.Host == "" && u.RawQuery == "":
		return text
	}
	if u.User != nil {
		u.User = url.User(mask)
	}
	if u.RawQuery != "" {
		u.RawQuery = mask
	}
	if u.Fragment != "" {
		u.Fragment, u.RawFragment = mask, ""
	}
	return u.String()
}

// hideHook leaves scheme and host: with chat services the path is the secret.
func hideHook(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return notShown
	}
	if u.User == nil && strings.Trim(u.Path, "/") == "" && u.RawQuery == "" && u.Fragment == "" {
		return text
	}
	return u.Scheme + "://" + u.Host + "/" + mask
}
