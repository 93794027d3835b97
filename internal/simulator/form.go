package simulator

import (
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// Form is where an answer has its assets. As a RunOption it chooses one.
type Form int

// The forms.
const (
	Documented Form = iota // "result": {"images": [{...}]}
	Singular               // "result": {"image": {...}}, where a list has one asset
	Nested                 // "result": {"output": {"images": [{...}]}}
	Capitals               // "result": {"IMAGES": [{...}]}
	AsText                 // "result": "{\"images\": ...}"
	Generated              // "generated": ["https://..."], as in task webhooks: without IDs
)

func (f Form) applyRun(r *script) { r.form = f }

// apply brings the answer's result into the form.
func (f Form) apply(doc map[string]any) {
	result, ok := doc["result"].(map[string]any)
	if !ok || f == Documented {
		return
	}
	shaped := map[string]any{}
	for name, value := range result {
		list, _ := value.([]any)
		switch {
		case f == Singular && len(list) == 1:
			shaped[strings.TrimSuffix(name, "s")] = list[0]
		case f == Capitals:
			shaped[strings.ToUpper(name)] = value
		default:
			shaped[name] = value
		}
	}
	switch f {
	case Nested:
		doc["result"] = map[string]any{"output": shaped}
	case AsText:
		doc["result"] = string(encodeJSON(shaped))
	case Generated:
		urls := []any{}
		for _, kind := range run.Kinds() {
			list, _ := shaped[string(kind)].([]any)
			for _, item := range list {
				urls = append(urls, item.(map[string]any)["url"])
			}
		}
		delete(doc, "result")
		doc["generated"] = urls
	default:
		doc["result"] = shaped
	}
}
