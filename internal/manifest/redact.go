package manifest

import (
	"bytes"
	"encoding/json"

	"github.com/assetd/assetd/internal/signedurl"
)

// redact is f with every string in it, names of members too, without query and
// fragment where it holds a URL. What cannot be read is left out: it could hold
// anything.
func redact[M ~map[string]json.RawMessage](f M) fields {
	if len(f) == 0 {
		return nil
	}
	clean := make(fields, len(f))
	for name, raw := range f {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // a number keeps its digits
		var v any
		if dec.Decode(&v) != nil {
			continue
		}
		out, err := encode(redactValue(v))
		if err != nil {
			continue
		}
		clean[signedurl.Redact(name)] = out
	}
	return clean
}

// encode is json.Marshal without the escapes meant for HTML.
func encode(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

func redactValue(v any) any {
	switch v := v.(type) {
	case string:
		return signedurl.Redact(v)
	case []any:
		for i := range v {
			v[i] = redactValue(v[i])
		}
		return v
	case map[string]any:
		clean := make(map[string]any, len(v))
		for name, member := range v {
			clean[signedurl.Redact(name)] = redactValue(member)
		}
		return clean
	default:
		return v
	}
}
