// Package manifest is the record of a settled run: manifest.json and SHA256SUMS,
// and the stage that writes them.
//
// It guarantees that a manifest appears only when its run is finished, names
// every asset of the run, stored or lost, and is never replaced by one that names
// fewer stored assets. Durable writes are storage's work, and the truth about
// runs is the queue's.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// The files of a settled run, and the schema of the first.
const (
	Schema   = "assetd/manifest/1"
	File     = "manifest.json"
	SumsFile = "SHA256SUMS"
)

// Manifest is the JSON record of a settled run. What the API left out is null;
// Assets is always a list.
type Manifest struct {
	Schema       string            `json:"schema"`
	Revision     int               `json:"revision"` // from 1, one more after each retry
	RunID        run.ID            `json:"run_id"`
	AppID        *string           `json:"app_id"`
	Status       *string           `json:"status"` // the API's word
	Outcome      run.Outcome       `json:"outcome"`
	ErrorMessage *string           `json:"error_message"`
	GaveUp       *string           `json:"gave_up,omitempty"` // why polling was given up
	Labels       map[string]string `json:"labels"`
	StartedAt    *string           `json:"started_at"`
	CompletedAt  *string           `json:"completed_at"`
	SettledAt    time.Time         `json:"settled_at"`
	Ignored      fields            `json:"ignored,omitempty"` // fields with URLs that are no known asset's
	Assets       []Asset           `json:"assets"`

	Extra fields `json:"-"` // the API's unknown fields, beside the known ones
}

// Asset is one asset of a manifest. For a loss File and SHA256 are null and Error
// and LostAt are there.
type Asset struct {
	Kind         run.Kind   `json:"kind"`
	ID           string     `json:"id"`
	Tool         *string    `json:"tool"`
	Width        *int       `json:"width"`
	Height       *int       `json:"height"`
	Duration     *float64   `json:"duration"` // seconds
	CreatedAt    *string    `json:"created_at"`
	File         *string    `json:"file"` // relative to the manifest
	Size         *int64     `json:"size"` // bytes
	SHA256       *string    `json:"sha256"`
	ContentType  *string    `json:"content_type"`
	Source       *string    `json:"source"` // URL without query
	DownloadedAt *time.Time `json:"downloaded_at"`
	Attempts     int        `json:"attempts"`
	Warnings     []string   `json:"warnings"`
	Error        *string    `json:"error,omitempty"`
	LostAt       *time.Time `json:"lost_at,omitempty"`

	told map[string]json.RawMessage // the API's unknown fields as it told them; Write redacts them
}

// fields are members of a JSON object that we do not know.
type fields map[string]json.RawMessage

// Build is the manifest of a run none of whose assets is open, from the queue's
// records and the last answer (zero where there is none). It holds no secret:
// every string with :// has lost query and fragment.
func Build(r run.Run, assets []run.Asset, answer run.Answer, revision int, at time.Time) Manifest {
	m := Manifest{
		Schema: Schema, Revision: revision, RunID: r.ID, AppID: text(r.App),
		Status: text(string(r.Status)), Outcome: r.Judge(), ErrorMessage: text(r.ErrorMessage),
		GaveUp: text(r.GaveUp), Labels: map[string]string{},
		StartedAt: text(r.StartedAt), CompletedAt: text(r.CompletedAt), SettledAt: at.UTC(),
		Ignored: redact(answer.Ignored), Extra: redact(answer.Extra),
		Assets: make([]Asset, 0, len(assets)),
	}
	for k, v := range r.Labels {
		m.Labels[signedurl.Redact(k)] = signedurl.Redact(v)
	}
	told := make(map[run.Key]map[string]json.RawMessage, len(answer.Assets))
	for _, l := range answer.Assets {
		if len(l.Extra) > 0 {
			told[run.Key{Run: r.ID, Kind: l.Kind, ID: l.ID}] = l.Extra
		}
	}
	for _, a := range inOrder(assets) {
		m.Assets = append(m.Assets, buildAsset(a, told[a.Key]))
	}
	return m
}

// inOrder is the assets by kind, then by index, then by id: the API's own order
// where it is known.
func inOrder(assets []run.Asset) []run.Asset {
	sorted := slices.Clone(assets)
	slices.SortStableFunc(sorted, func(a, b run.Asset) int {
		kinds := run.Kinds()
		if d := slices.Index(kinds, a.Key.Kind) - slices.Index(kinds, b.Key.Kind); d != 0 {
			return d
		}
		if a.Index != b.Index {
			return a.Index - b.Index
		}
		return strings.Compare(a.Key.ID, b.Key.ID)
	})
	return sorted
}

// warningUnlisted is the word for an asset that was listed while its run went on and
// is not in the answer that ended it.
const warningUnlisted = "unlisted"

func buildAsset(a run.Asset, told map[string]json.RawMessage) Asset {
	m := Asset{
		Kind: a.Key.Kind, ID: signedurl.Redact(a.Key.ID), Tool: text(a.Tool), Width: a.Width, Height: a.Height,
		Duration: a.Duration, CreatedAt: text(a.CreatedAt), Source: text(a.Source),
		Attempts: a.Attempts, Warnings: []string{}, told: told,
	}
	if s := a.Stored; s != nil && a.State == run.AssetStored {
		at := s.DownloadedAt.UTC()
		m.File, m.Size, m.SHA256, m.ContentType = &s.File, &s.Size, &s.SHA256, text(s.ContentType)
		m.DownloadedAt = &at
		for _, w := range s.Warnings {
			m.Warnings = append(m.Warnings, signedurl.Redact(w))
		}
	}
	if a.Unlisted {
		m.Warnings = append(m.Warnings, warningUnlisted)
	}
	if l := a.Loss; l != nil && a.State == run.AssetLost {
		at := l.At.UTC()
		m.Error, m.LostAt = text(l.Reason), &at
	}
	return m
}

// text is nil for nothing, else s without secrets.
func text(s string) *string {
	if s == "" {
		return nil
	}
	s = signedurl.Redact(s)
	return &s
}

// Write writes the manifest as indented JSON with a final newline: our fields
// first, then the API's unknown ones, the assets last. An unknown field with a name
// of ours gets the prefix "api_". One asset is in memory at a time: a run may have
// 10,000 of them. An error is either w's or names the run.
func (m Manifest) Write(w io.Writer) error {
	type known Manifest
	head, err := encode(struct {
		known
		Assets []Asset `json:"assets,omitempty"` // hides known's: they come last
	}{known: known(m)})
	if err == nil {
		head, err = splice(head, m.Extra)
	}
	if err != nil {
		return fmt.Errorf("manifest of run %s: %w", m.RunID, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, head, "", "  "); err != nil {
		return fmt.Errorf("manifest of run %s: %w", m.RunID, err)
	}
	out.Truncate(out.Len() - len("\n}")) // it goes on
	out.WriteString(",\n  \"assets\": [")
	for i, a := range m.Assets {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString("\n    ")
		if err := a.indent(&out); err != nil {
			return fmt.Errorf("manifest of run %s: asset %s: %w", m.RunID, a.ID, err)
		}
		if _, err := out.WriteTo(w); err != nil {
			return err
		}
	}
	if len(m.Assets) > 0 {
		out.WriteString("\n  ")
	}
	out.WriteString("]\n}\n")
	_, err = out.WriteTo(w)
	return err
}

// indent writes the asset as one of the manifest's list, the unknown fields behind
// ours.
func (a Asset) indent(out *bytes.Buffer) error {
	data, err := encode(a)
	if err == nil {
		data, err = splice(data, redact(a.told))
	}
	if err != nil {
		return err
	}
	return json.Indent(out, data, "    ", "  ")
}

// splice is the JSON object with extra's members added at its end.
func splice(object []byte, extra fields) ([]byte, error) {
	if len(extra) == 0 {
		return object, nil
	}
	var known map[string]json.RawMessage
	if err := json.Unmarshal(object, &known); err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(slices.Clone(object[:len(object)-1]))
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		key, err := encode(rename(name, known))
		if err != nil {
			return nil, err
		}
		out.WriteByte(',')
		out.Write(key)
		out.WriteByte(':')
		out.Write(extra[name])
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// rename is the name that an unknown member gets: its own, unless it is one of
// ours, also one that this very object leaves out.
func rename(name string, known map[string]json.RawMessage) string {
	_, taken := known[name]
	for taken || name == "error" || name == "lost_at" || name == "gave_up" || name == "ignored" || name == "assets" {
		name = "api_" + name
		_, taken = known[name]
	}
	return name
}

// WriteSums writes SHA256SUMS in the format of sha256sum.
func (m Manifest) WriteSums(w io.Writer) error {
	for _, a := range m.Assets {
		if !a.summed() {
			continue
		}
		if _, err := io.WriteString(w, sumLine(*a.SHA256, *a.File)); err != nil {
			return err
		}
	}
	return nil
}

// summed reports whether the asset has a line in SHA256SUMS: it is stored.
func (a Asset) summed() bool { return a.File != nil && a.SHA256 != nil }

// sumLine is one line. Storage makes no names with a backslash or a line break; an
// older manifest may hold some, and these are escaped, as sha256sum does and reads
// it (GNU coreutils, "md5sum invocation").
func sumLine(sum, file string) string {
	if strings.ContainsAny(file, "\\\n") {
		sum, file = "\\"+sum, strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(file)
	}
	return sum + "  " + file + "\n"
}

// stored are the manifest's stored assets by key. A file that would lie outside the
// run's directory is none of the run's, whoever wrote that.
func (m Manifest) stored() map[run.Key]Asset {
	found := make(map[run.Key]Asset, len(m.Assets))
	for _, a := range m.Assets {
		if a.File != nil && a.Size != nil && a.SHA256 != nil && fs.ValidPath(*a.File) {
			found[run.Key{Run: m.RunID, Kind: a.Kind, ID: a.ID}] = a
		}
	}
	return found
}

// Parse reads a manifest. Its unknown fields are not kept.
func Parse(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("not a manifest: %w", err)
	}
	if m.Schema != Schema {
		return Manifest{}, fmt.Errorf("not a manifest: schema is %q, not %q", m.Schema, Schema)
	}
	return m, nil
}
