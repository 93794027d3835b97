package notify

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

// manifestFile is the record of a settled run, in its directory.
const manifestFile = "manifest.json"

// message is a notice as a hook gets it.
type message struct {
	run.Notice
	key  string
	body []byte   // JSON
	env  []string // for a command
}

// payload is the JSON of a message, in the shape that Standard Webhooks gives it.
type payload struct {
	Type      run.NoticeKind `json:"type"`
	Timestamp time.Time      `json:"timestamp"`
	Data      any            `json:"data"`
}

// runData is the data of what is about one run: of run.*, and with the asset of
// asset.lost.
type runData struct {
	RunID    run.ID            `json:"run_id"`
	AppID    string            `json:"app_id,omitempty"`
	State    run.State         `json:"state"`
	Labels   map[string]string `json:"labels"`
	Dir      string            `json:"dir,omitempty"` // absolute
	*ended                     // of run.*
	*lost                      // of asset.lost
	ErrorMsg string            `json:"error,omitempty"`
}

type ended struct {
	Outcome  run.State `json:"outcome"`
	Revision int       `json:"revision"`
	Manifest string    `json:"manifest,omitempty"` // absolute
	Assets   int       `json:"assets"`
	Stored   int       `json:"stored"`
	Lost     int       `json:"lost"`
	Bytes    int64     `json:"bytes"`
}

type lost struct {
	Kind run.Kind     `json:"kind"`
	ID   string       `json:"asset_id"`
	Rule run.LossRule `json:"rule"`
}

// riskData is the data of asset.at_risk.
type riskData struct {
	Assets int        `json:"assets"`
	Bytes  int64      `json:"bytes"` // still to come
	Dies   *time.Time `json:"first_dies_at,omitempty"`
	Host   string     `json:"host,omitempty"`
	RunIDs []run.ID   `json:"run_ids"` // some of those concerned, the most urgent first
	Reason string     `json:"reason,omitempty"`
}

// troubleData is the data of what concerns all runs.
type troubleData struct {
	Reason string `json:"reason,omitempty"`
}

// compose makes the message of a notice. r is the notice's run as it stands now,
// for what does not change any more, or zero where it is gone.
func compose(n run.Notice, r run.Run, key, storage string) (message, error) {
	m := message{Notice: n, key: key}
	vars := variables{}
	vars.set("EVENT", string(n.Kind))
	vars.set("IDEMPOTENCY_KEY", key)
	vars.set("TEXT", signedurl.Redact(n.Text))
	var data any
	switch {
	case n.Run != "":
		data = aboutRun(n, r, storage, vars)
	case n.Kind == run.AssetsAtRisk:
		data = aboutRisk(n, vars)
	default:
		data = troubleData{Reason: signedurl.Redact(n.Text)}
	}
	var err error
	m.env = vars.list()
	m.body, err = encode(payload{Type: n.Kind, Timestamp: n.At.UTC(), Data: data})
	return m, err
}

func aboutRun(n run.Notice, r run.Run, storage string, vars variables) runData {
	d := runData{
		RunID: n.Run, AppID: cmp.Or(n.App, r.App), State: n.State, Labels: map[string]string{},
		ErrorMsg: signedurl.Redact(n.Text),
	}
	if dir := cmp.Or(n.Dir, r.Dir); dir != "" {
		d.Dir = filepath.Join(storage, filepath.FromSlash(path.Clean("/"+dir)))
	}
	for name, value := range r.Labels {
		d.Labels[signedurl.Redact(name)] = signedurl.Redact(value)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Labels)) {
		vars.set("LABEL_"+varName(name), d.Labels[name])
	}
	vars.set("RUN_ID", string(n.Run))
	vars.set("APP_ID", d.AppID)
	vars.set("STATE", string(n.State))
	vars.set("DIR", d.Dir)
	if n.Kind == run.LostAsset {
		d.lost = &lost{Kind: n.Asset.Kind, ID: signedurl.Redact(n.Asset.ID), Rule: n.Rule}
		vars.set("ASSET_KIND", string(d.Kind))
		vars.set("ASSET_ID", d.ID)
		return d
	}
	if n.Kind == run.URLsIgnored {
		return d
	}
	d.ended = &ended{Outcome: n.State, Revision: n.Revision, Assets: n.Assets, Stored: n.Stored, Lost: n.Lost, Bytes: n.Bytes}
	if d.Dir != "" {
		d.Manifest = filepath.Join(d.Dir, manifestFile)
		vars.set("MANIFEST", d.Manifest)
	}
	return d
}

func aboutRisk(n run.Notice, vars variables) riskData {
	d := riskData{Assets: n.Count, Bytes: n.Bytes, Host: n.Host, RunIDs: append([]run.ID{}, n.Runs...), Reason: signedurl.Redact(n.Text)}
	if !n.Dies.IsZero() {
		d.Dies = &n.Dies
	}
	if len(n.Runs) == 1 {
		vars.set("RUN_ID", string(n.Runs[0]))
	}
	return d
}

// variables are those that a command gets, by name without its prefix.
type variables map[string]string

// set sets a variable that was not set before; the system knows none with a NUL.
func (v variables) set(name, value string) {
	if _, taken := v[name]; !taken && value != "" {
		v[name] = strings.ReplaceAll(value, "\x00", "")
	}
}

func (v variables) list() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(v)) {
		all = append(all, "ASSETD_"+name+"="+v[name])
	}
	return all
}

// varName is a label's name as a variable's: A-Z, 0-9 and _.
func varName(label string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, label)
}

// encode is the JSON of v, where <, > and & stand as they are.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}
