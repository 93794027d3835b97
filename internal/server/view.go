package server

import (
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Run is a run as the API and `--json` show it. It holds no signed URL.
type Run struct {
	RunID        run.ID            `json:"run_id"`
	AppID        string            `json:"app_id"` // empty until the API answered
	State        run.State         `json:"state"`
	Labels       map[string]string `json:"labels"`
	Status       run.Status        `json:"status"` // the API's word, empty until it answered
	HandedIn     time.Time         `json:"handed_in"`
	EndedAt      *time.Time        `json:"ended_at,omitempty"`
	SettledAt    *time.Time        `json:"settled_at,omitempty"`
	Dir          string            `json:"dir,omitempty"` // below storage.dir
	Assets       int               `json:"assets"`
	Stored       int               `json:"stored"`
	Lost         int               `json:"lost"`
	Damaged      int               `json:"damaged,omitempty"`    // stored files that verify found damaged or missing
	BadRecord    string            `json:"bad_record,omitempty"` // what verify found of manifest.json or SHA256SUMS
	Revision     int               `json:"revision,omitempty"`   // of the last manifest written
	Bytes        int64             `json:"bytes"`
	DiesAt       *time.Time        `json:"dies_at,omitempty"` // when the first URL of its assets that are still to come dies, as far as known
	AtRisk       int               `json:"at_risk,omitempty"` // assets that may not be there before their URLs die
	Polls        int               `json:"polls"`
	NoAccess     bool              `json:"no_access,omitempty"` // the API answers 403 for this run alone
	LastError    string            `json:"last_error,omitempty"`
	HeldUp       []string          `json:"held_up,omitempty"`       // what on our side keeps an open run from going on
	ErrorMessage string            `json:"error_message,omitempty"` // the API's
	GaveUp       string            `json:"gave_up,omitempty"`
	AssetList    []Asset           `json:"asset_list,omitempty"` // only where one run is shown
}

// Asset is an asset as the API and `--json` show it.
type Asset struct {
	Kind      run.Kind       `json:"kind"`
	ID        string         `json:"id"`
	State     run.AssetState `json:"state"`
	Source    string         `json:"source,omitempty"` // the URL without query and fragment
	File      string         `json:"file,omitempty"`   // below the run's directory
	Size      int64          `json:"size,omitempty"`
	SHA256    string         `json:"sha256,omitempty"`
	Expiry    *time.Time     `json:"expiry,omitempty"` // when the URL dies; absent: unknown
	Attempts  int            `json:"attempts"`
	LastError string         `json:"last_error,omitempty"`
	Damaged   bool           `json:"damaged,omitempty"`  // verify found the stored file damaged or missing
	AtRisk    bool           `json:"at_risk,omitempty"`  // it may not be there before its URL dies
	HeldUp    string         `json:"held_up,omitempty"`  // what on our side keeps it from going on
	Received  int64          `json:"received,omitempty"` // while downloading: bytes so far
	Total     int64          `json:"total,omitempty"`    // while downloading, where it is told: bytes
	Loss      *run.Loss      `json:"loss,omitempty"`
	Aside     string         `json:"quarantine,omitempty"` // below storage.dir: a copy of what came and was not media, or of a damaged file
	Warnings  []string       `json:"warnings,omitempty"`
}

// ViewRun is r as the queue alone can show it, with its assets where they are given.
func ViewRun(r run.Run, assets []run.Asset) Run {
	v := Run{
		RunID: r.ID, AppID: r.App, State: r.State, Labels: r.Labels, Status: r.Status, HandedIn: r.HandedIn,
		EndedAt: moment(r.EndedAt), SettledAt: moment(r.SettledAt), Dir: r.Dir,
		Assets: r.Assets, Stored: r.Stored, Lost: r.Lost, Bytes: r.Bytes, Polls: r.Polls.Count,
		Damaged: r.Marked, BadRecord: r.BadRecord, Revision: r.Revision,
		NoAccess: r.Polls.NoAccess, LastError: r.Polls.LastError, ErrorMessage: r.ErrorMessage, GaveUp: r.GaveUp,
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	for _, a := range assets {
		v.AssetList = append(v.AssetList, viewAsset(a))
		if !a.Expiry.IsZero() && a.State.Open() && (v.DiesAt == nil || a.Expiry.Before(*v.DiesAt)) {
			v.DiesAt = moment(a.Expiry)
		}
	}
	return v
}

func viewAsset(a run.Asset) Asset {
	v := Asset{
		Kind: a.Key.Kind, ID: a.Key.ID, State: a.State, Source: a.Source, Expiry: moment(a.Expiry),
		Attempts: a.Attempts, LastError: a.LastError, Damaged: a.Marked, Loss: a.Loss, Aside: a.Quarantine,
	}
	if s := a.Stored; s != nil {
		v.File, v.Size, v.SHA256, v.Warnings = s.File, s.Size, s.SHA256, s.Warnings
	}
	return v
}

// Transfer is an asset that is being downloaded.
type Transfer struct {
	Key      run.Key
	Received int64 // bytes so far
	Total    int64 // bytes; 0 or less: not told
}

// live brings in what is in memory only: which assets are being downloaded, and
// what keeps the others.
func (v *Run) live(r run.Run, now Now) {
	v.HeldUp = now.Held(r)
	if len(v.AssetList) == 0 || r.State.Settled() {
		return
	}
	flying := map[run.Key]Transfer{}
	for _, t := range now.InFlight() {
		flying[t.Key] = t
	}
	for i := range v.AssetList {
		a := &v.AssetList[i]
		key := run.Key{Run: r.ID, Kind: a.Kind, ID: a.ID}
		if !a.State.Open() {
			continue
		}
		if t, ok := flying[key]; ok && a.State == run.AssetWaiting {
			a.State, a.Received, a.Total = run.AssetDownloading, t.Received, max(t.Total, 0)
			continue
		}
		a.HeldUp = now.HeldAsset(key)
	}
}

// endanger marks the assets that are at risk.
func (v *Run) endanger(risk atRisk) {
	v.AtRisk = len(risk)
	for i := range v.AssetList {
		a := &v.AssetList[i]
		a.AtRisk = risk[run.Key{Run: v.RunID, Kind: a.Kind, ID: a.ID}]
	}
}

// moment is nil for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	OK      bool     `json:"ok"`
	Reasons []string `json:"reasons"` // why not; empty where OK
}
