package server

import (
	"net/http"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Status is how the daemon stands at the moment.
type Status struct {
	Version   string    `json:"version"`
	StartedAt time.Time `json:"started_at"`
	Alive     Health    `json:"alive"`
	Ready     Health    `json:"ready"`

	Runs   map[run.State]int      `json:"runs"`   // by state
	Assets map[run.AssetState]int `json:"assets"` // by state

	Transfers int   `json:"transfers"`          // at full speed
	Held      int   `json:"held"`               // held open past the death of their URLs
	AtRisk    int   `json:"at_risk"`            // assets that may not be there before their URLs die
	Damaged   int   `json:"damaged"`            // stored files that verify found damaged or missing
	Throttled int   `json:"throttled"`          // hosts that are left alone for a while
	Received  int64 `json:"received"`           // bytes since the start
	Link      int64 `json:"link_rate"`          // bytes a second it was seen to bring; 0: not known
	Deadline  *Secs `json:"deadline,omitempty"` // seconds to the nearest deadline, negative when it has passed; absent: none is known
	Drain     *Secs `json:"drain,omitempty"`    // seconds that what waits and dies takes; absent: not known
	Slack     *Secs `json:"slack,omitempty"`    // seconds that are left after that; negative: they do not do
	Oldest    *Secs `json:"oldest,omitempty"`   // seconds since the oldest open run was handed in

	Budget  float64 `json:"api_rate"` // requests a second to the API
	Volume  *Space  `json:"volume,omitempty"`
	State   *Space  `json:"state,omitempty"` // of state.dir
	MinFree int64   `json:"min_free"`        // bytes
}

// Secs is a time in seconds.
type Secs float64

// Duration is the time to the second.
func (s Secs) Duration() time.Duration {
	return time.Duration(float64(s) * float64(time.Second)).Round(time.Second)
}

func secs(d *time.Duration) *Secs {
	if d == nil {
		return nil
	}
	s := Secs(d.Seconds())
	return &s
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	v := Status{Version: s.Version, StartedAt: s.started, Alive: s.Checks.Alive().listed(), Ready: s.Checks.Ready().listed()}
	if s.asked == nil {
		reply(w, http.StatusOK, v)
		return
	}
	if q := s.asked.queued(); q != nil {
		v.Runs, v.Assets, v.Damaged, v.Deadline, v.Oldest = q.Runs, q.Assets, q.DamagedFiles, secs(q.Deadline), secs(q.Oldest)
	}
	work := s.asked.from.Working()
	v.Transfers, v.Held, v.AtRisk, v.Throttled = work.Running, work.Held, work.AtRisk, work.Throttled
	v.Received, v.Link, v.Budget = work.Received, work.Link, work.Budget
	v.Drain, v.Slack = secs(work.Drain), secs(work.Slack)
	around := s.asked.from.Around()
	v.Volume, v.State, v.MinFree = around.Assets, around.State, around.MinFree
	reply(w, http.StatusOK, v)
}
