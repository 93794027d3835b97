package config

import (
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// kind is what a key's value can be.
type kind struct {
	tags  string                         // the YAML tags it may have
	list  bool                           // a list of what parse takes
	parse func(text string) (any, error) // the error is a fault
	hide  func(text string) string       // masks what is secret in it; nil: nothing is
}

// fault is what is wrong with a value, and what to write instead.
type fault struct{ what, mend string }

func (f fault) Error() string { return f.what + "; " + f.mend }

// value is a setting as it was written.
type value struct {
	text  string
	tag   string // YAML's, in its short form; empty: from the environment or --set
	list  bool
	items []value // of a list
}

// The tags of YAML's core schema.
const (
	tagText  = "!!str"
	tagInt   = "!!int"
	tagFloat = "!!float"
	tagBool  = "!!bool"
	tagNull  = "!!null"
	tagTime  = "!!timestamp"
)

// read is the value in the type of the field it is for.
func (k kind) read(v value) (any, error) {
	if k.list {
		return k.readList(v)
	}
	if v.list {
		return nil, fault{"is a list", "write one value"}
	}
	if v.tag == "" || strings.Contains(k.tags, v.tag) {
		return k.parse(v.text)
	}
	switch v.tag {
	case tagText, tagInt, tagFloat, tagBool:
		if strings.Contains(k.tags, tagText) {
			return nil, fault{"is not a text", "put it in quotes"}
		}
		if _, err := k.parse(v.text); err != nil {
			return nil, err
		}
		return nil, fault{"is a text", "write it without quotes"}
	case tagNull:
		if _, err := k.parse(""); err != nil {
			return nil, fault{"has no value", "give it one, or remove the line for the default"}
		}
		return nil, fault{"has no value", `write "" for nothing, or remove the line for the default`}
	default:
		return nil, fault{fmt.Sprintf("has the tag %.20q", v.tag), "write it without the tag"}
	}
}

func (k kind) readList(v value) (any, error) {
	items := v.items
	switch {
	case v.tag == "":
		for text := range strings.SplitSeq(v.text, ",") {
			if text = strings.TrimSpace(text); text != "" {
				items = append(items, value{text: text})
			}
		}
	case !v.list:
		return nil, fault{"is not a list", "write it in brackets: [first, second]"}
	}
	one := k
	one.list = false
	list := []netip.Prefix{}
	for _, item := range items {
		read, err := one.read(item)
		if err != nil {
			return nil, fault{fmt.Sprintf("holds %.60q, which %s", item.text, err.(fault).what), err.(fault).mend} //nolint:errorlint // kinds give nothing but faults
		}
		list = append(list, read.(netip.Prefix))
	}
	return list, nil
}

// The longest duration: with it no sum of a date and a few durations overflows,
// not even in nanoseconds.
const (
	shortest = 100 * time.Millisecond
	longest  = 100 * 365 * 24 * time.Hour
)

// duration is Go's notation, from 100ms to 100 years.
func duration() kind { return durationTo(longest) }

// durationTo is duration with a bound in whole hours.
func durationTo(longest time.Duration) kind {
	return kind{tags: tagText + tagInt + tagFloat, parse: func(text string) (any, error) {
		d, err := time.ParseDuration(text)
		switch {
		case err == nil && (d < shortest || d > longest):
			return nil, fault{"is out of range", fmt.Sprintf("write 100ms to %dh", longest/time.Hour)}
		case err == nil:
			return d, nil
		case isDecimal(text):
			if d, err := time.ParseDuration(text + "s"); err == nil && d >= shortest && d <= longest/60 {
				return nil, fault{"has no unit", "write " + text + "s for seconds, " + text + "m for minutes"}
			}
			return nil, fault{"has no unit", "write it like 30s, 5m or 72h"}
		case strings.ContainsAny(text, "dw"):
			return nil, fault{"is not a duration", "the units are h, m, s and ms; a day is 24h"}
		}
		return nil, fault{"is not a duration", "write it like 30s, 5m or 72h"}
	}}
}

// size is a number of bytes with a unit, from least on.
func size(least int64) kind {
	return kind{tags: tagText + tagInt, parse: func(text string) (any, error) {
		if isDecimal(text) && strings.Trim(text, "0.") != "" {
			if _, err := parseBytes(text+"GiB", least, ""); err == nil && len(text) < 20 {
				return nil, fault{"has no unit", "write it like " + text + "MiB or " + text + "GiB"}
			}
			return nil, fault{"has no unit", "write it like 500MiB, 1GiB or 1GB"}
		}
		return parseBytes(text, least, "write it like 500MiB, 1GiB or 1GB")
	}}
}

// byteRate is a number of bytes a second; the unit may be left out.
func byteRate() kind {
	return kind{tags: tagText + tagInt, parse: func(text string) (any, error) {
		return parseBytes(text, 0, "write it in bytes a second, like 20MiB, or 0 for no limit")
	}}
}

func parseBytes(text string, least int64, mend string) (any, error) {
	// What humanize would take besides, such as 1,5GiB for 15 GiB, is not meant.
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	if !isDecimal(strings.TrimSuffix(number, " ")) {
		return nil, fault{"is not a size", mend}
	}
	n, err := humanize.ParseBytes(text)
	switch {
	case err != nil && strings.Contains(err.Error(), "too large"), err == nil && n > math.MaxInt64:
		return nil, fault{"is out of range", "write less than 8EiB"}
	case err != nil:
		return nil, fault{"is not a size", mend}
	case int64(n) < least:
		return nil, fault{"is out of range", "write at least " + showBytes(least)}
	}
	return int64(n), nil
}

// The most of anything that is counted: more is a slip of the finger.
const most = 1_000_000

// count is a whole number from least on.
func count(least int) kind {
	return kind{tags: tagInt, parse: func(text string) (any, error) {
		mend := fmt.Sprintf("write a whole number from %d to 1000000", least)
		n, err := strconv.Atoi(text)
		switch {
		case err == nil && (n < least || n > most), isDecimal(text) && !strings.Contains(text, ".") && err != nil:
			return nil, fault{"is out of range", mend}
		case err != nil:
			return nil, fault{"is not a whole number", mend}
		}
		return n, nil
	}}
}

// number is a rate from 1 on, with or without decimals; 0 where it has a meaning.
func number(zero bool) kind {
	mend := "write a number from 1 to 1000000"
	if zero {
		mend = "write 0, or a number from 1 to 1000000"
	}
	return kind{tags: tagInt + tagFloat, parse: func(text string) (any, error) {
		if !isDecimal(strings.TrimPrefix(text, "-")) {
			return nil, fault{"is not a number", mend}
		}
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || (f < 1 || f > most) && (f != 0 || !zero) {
			return nil, fault{"is out of range", mend}
		}
		return f, nil
	}}
}

// flag is true or false.
func flag() kind {
	return kind{tags: tagBool, parse: func(text string) (any, error) {
		switch strings.ToLower(text) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fault{"is neither true nor false", "write true or false"}
	}}
}

// mode is a file mode in octal, as chmod takes it: 0640, 640 and 0o640, in quotes
// or not, are the same. YAML's versions disagree about 0640, so its number is
// never asked for.
func mode() kind {
	return kind{tags: tagText + tagInt + tagFloat, parse: func(text string) (any, error) {
		digits := strings.TrimPrefix(strings.TrimPrefix(text, "0o"), "0O")
		m, err := strconv.ParseUint(digits, 8, 32)
		switch {
		case err != nil:
			return nil, fault{"is not a file mode", "write it in octal, like 0640"}
		case m > 0o777:
			return nil, fault{"is out of range", "write 0000 to 0777; setuid, setgid and sticky bits are not for stored files"}
		}
		return fs.FileMode(m), nil
	}}
}

// networks is a list of networks in CIDR notation.
func networks() kind {
	return kind{tags: tagText, list: true, parse: func(text string) (any, error) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
				return nil, fault{"is an address", fmt.Sprintf("write it as a network: %s/%d", a, a.BitLen())}
			}
			return nil, fault{"is not a network", "write it like 10.0.0.0/8"}
		}
		if p.Addr().Is4In6() {
			return nil, fault{"is IPv4 within IPv6", "write it as IPv4, like 10.0.0.0/8"}
		}
		return p.Masked(), nil
	}}
}

// isDecimal reports whether text is digits, with at most one dot within them.
func isDecimal(text string) bool {
	whole, part, dot := strings.Cut(text, ".")
	return isDigits(whole) && (!dot || isDigits(part))
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}
