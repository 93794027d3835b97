// Package pyjson reads the JSON that Python's json.dumps writes by default. It differs
// from RFC 8259 in three words: NaN, Infinity and -Infinity stand where a number is, and
// strict readers refuse the whole document for them. It guarantees that nothing but these
// words changes, and that what is in strings stays. It is pure.
package pyjson

import "bytes"

// Strict returns body with null in place of each NaN, Infinity and -Infinity that is a
// value of its own. Lines stay lines. It copies only where there is something to replace,
// and leaves to others whether the rest is JSON.
func Strict(body []byte) []byte {
	if !bytes.Contains(body, []byte("NaN")) && !bytes.Contains(body, []byte("Infinity")) {
		return body
	}
	var out []byte
	copied := 0
	for i := 0; i < len(body); {
		if body[i] == '"' {
			i = stringEnd(body, i)
			continue
		}
		to := i
		for to < len(body) && !ends(body[to]) {
			to++
		}
		switch string(body[i:to]) {
		case "NaN", "Infinity", "-Infinity":
			out = append(append(out, body[copied:i]...), "null"...)
			copied = to
		}
		i = max(to, i+1)
	}
	return append(out, body[copied:]...)
}

// ends reports whether a number or word is over before this byte.
func ends(c byte) bool { return bytes.IndexByte([]byte(" \t\r\n,:]}\"{["), c) >= 0 }

// stringEnd returns where the string that begins at i is over, in JSON whose syntax
// is not known yet.
func stringEnd(body []byte, i int) int {
	for i++; i < len(body) && body[i] != '"'; i++ {
		if body[i] == '\\' {
			i++
		}
	}
	return min(i+1, len(body))
}
