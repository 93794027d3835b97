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
	Ignored      fields            `json:"ignored,omitempty"` // lists of objects with a url that are no known kind
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

	Extra fields `json:"-"`
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
	extra := make(map[run.Key]fields, len(answer.Assets))
	for _, l := range answer.Assets {
		if len(l.Extra) > 0 {
			extra[run.Key{Run: r.ID, Kind: l.Kind, ID: l.ID}] = redact(l.Extra)
		}
	}
	for _, a := range inOrder(assets) {
		m.Assets = append(m.Assets, buildAsset(a, extra[a.Key]))
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

func buildAsset(a run.Asset, extra fields) Asset {
	m := Asset{
		Kind: a.Key.Kind, ID: signedurl.Redact(a.Key.ID), Tool: text(a.Tool), Width: a.Width, Height: a.Height,
		Duration: a.Duration, CreatedAt: text(a.CreatedAt), Source: text(a.Source),
		Attempts: a.Attempts, Warnings: []string{}, Extra: extra,
	}
	if s := a.Stored; s != nil && a.State == run.AssetStored {
		at := s.DownloadedAt.UTC()
		m.File, m.Size, m.SHA256, m.ContentType = &s.File, &s.Size, &s.SHA256, text(s.ContentType)
		m.DownloadedAt = &at
		for _, w := range s.Warnings {
			m.Warnings = append(m.Warnings, signedurl.Redact(w))
		}
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

// Encode is the manifest as indented JSON with a final newline: our fields first,
// then the API's unknown ones, the assets last. An unknown field with a name of
// ours gets the prefix "api_".
func (m Manifest) Encode() ([]byte, error) {
	data, err := encode(m)
	if err != nil {
		return nil, fmt.Errorf("manifest of run %s: %w", m.RunID, err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, data, "", "  "); err != nil {
		return nil, fmt.Errorf("manifest of run %s: %w", m.RunID, err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// MarshalJSON puts the unknown fields between ours and the assets.
func (m Manifest) MarshalJSON() ([]byte, error) {
	type known Manifest
	head, err := encode(struct {
		known
		Assets []Asset `json:"assets,omitempty"` // hides known's: they come last
	}{known: known(m)})
	if err != nil {
		return nil, err
	}
	assets, err := encode(m.Assets)
	if err != nil {
		return nil, err
	}
	data, err := splice(head, m.Extra)
	if err != nil {
		return nil, err
	}
	return slices.Concat(data[:len(data)-1], []byte(`,"assets":`), assets, []byte("}")), nil
}

// MarshalJSON puts the unknown fields behind ours.
func (a Asset) MarshalJSON() ([]byte, error) {
	type known Asset
	data, err := encode(known(a))
	if err != nil {
		return nil, err
	}
	return splice(data, a.Extra)
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

// Sums is SHA256SUMS in the format of sha256sum, nil where nothing is stored.
func (m Manifest) Sums() []byte {
	var out bytes.Buffer
	for _, a := range m.Assets {
		if a.File != nil && a.SHA256 != nil {
			out.WriteString(sumLine(*a.SHA256, *a.File))
		}
	}
	return out.Bytes()
}

// sumLine is one line. Storage makes no names with a backslash or a line break; an
// older manifest may hold some, and these are escaped, as sha256sum does and reads
// it (GNU coreutils, "md5sum invocation").
func sumLine(sum, file string) string {
	escaped := strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(file)
	if escaped != file {
		sum = "\\" + sum
	}
	return sum + "  " + escaped + "\n"
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
