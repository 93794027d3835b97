// Package server answers what people and programs ask of a running daemon, over its
// unix socket and, where that is switched on, at server.listen: runs, assets, status,
// events, metrics, health; and it takes runs that are handed in, and the API's webhooks.
//
// It guarantees that nothing it answers holds a signed URL or the API key, that no
// request, however made, holds up a stage, and that what it took is on the disk before
// it says so. Who may reach the socket is decided by its file mode and its directory;
// who may ask at server.listen, by tokens, or where none is set by being on this
// machine.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Runs is what the server reads of the queue.
type Runs interface {
	List(ctx context.Context, state run.State, after run.ID, limit int) ([]run.Run, error)
	Get(ctx context.Context, id run.ID) (run.Run, error)
	Assets(ctx context.Context, id run.ID) ([]run.Asset, error)
}

// Checks tells how the daemon is.
type Checks interface {
	Alive() Health // its loops turn
	Ready() Health // and it can do its work
}

// Now tells what no queue knows: it is in the daemon's memory only. Its texts name
// the cause and the mend.
type Now interface {
	InFlight() []Transfer         // transfers that run
	Held(r run.Run) []string      // what on our side keeps an open run
	HeldAsset(key run.Key) string // and an asset, empty where nothing does
}

// Risks tells of which assets that are not stored yet people were told that they may
// not be there before their URLs die.
type Risks interface {
	AtRisk() []run.Key
}

// Deps are what a server answers from. Path, Runs, Checks and Now are required.
type Deps struct {
	Path    string // of the socket
	Address string // host:port to listen at, too; empty: the socket alone
	Tokens  Tokens // that are asked for at Address
	Version string

	Runs    Runs
	Checks  Checks
	Now     Now
	Risks   Risks  // nil: nobody knows of any
	Copies  Copier // nil: no copy of the queue is given
	Care    Care   // what people want done to a run; nil: that is not offered, nor is Stock
	Stock   Stock
	Metrics http.Handler // answers /metrics; nil: there is no such page
	Gauges  Gauges       // for the status; nil: it says less
	Events  *Events      // nil: none are told

	Intake      Intake           // says when what was written is in the queue; nil: nobody does
	DropDir     string           // what is handed in is written there
	WebhookKeys [][]byte         // any of which may have signed a webhook; switch the receiver on; need Poker
	Poker       Poker            // has known runs polled
	Clock       func() time.Time // nil: time.Now
	Tell        run.Tell         // takes what goes wrong; nil: nobody does
}

// Server serves the socket and the address. Run may be called once.
type Server struct {
	Deps
	started time.Time
	asked   *gauges
	webhook *receiver
	remotes remotes
	writing chan struct{} // a place for each drop file that is being written
	conns   *conns
}

// New makes a server; it opens nothing yet.
func New(d Deps) *Server {
	s := &Server{
		Deps: d, started: time.Now().UTC(), writing: make(chan struct{}, maxWriting),
		conns: newConns(MostConnections(OpenFiles())),
	}
	if s.Clock == nil {
		s.Clock = time.Now
	}
	s.Events = cmp.Or(s.Events, NewEvents())
	if d.Gauges != nil {
		s.asked = &gauges{from: d.Gauges}
	}
	if len(d.WebhookKeys) > 0 {
		s.webhook = &receiver{server: s, keys: d.WebhookKeys, seen: map[string]delivery{}}
	}
	return s
}

func (s *Server) tell(e run.Event) {
	if s.Tell != nil {
		s.Tell(e)
	}
}

// silent is a log that nothing comes into: what clients do wrong at the protocol is
// theirs.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

func health(w http.ResponseWriter, h Health) {
	status := http.StatusOK
	if !h.OK {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, h.listed())
}

// listed is h with a list of reasons, be it an empty one.
func (h Health) listed() Health {
	if h.Reasons == nil {
		h.Reasons = []string{}
	}
	return h
}

func (s *Server) show(w http.ResponseWriter, r *http.Request) {
	if v, ok := s.find(w, r); ok {
		reply(w, http.StatusOK, v)
	}
}

// assets are those of one run.
func (s *Server) assets(w http.ResponseWriter, r *http.Request) {
	if v, ok := s.find(w, r); ok {
		all := v.AssetList
		if all == nil {
			all = []Asset{}
		}
		reply(w, http.StatusOK, all)
	}
}

// find is the run that a request names; where it is not there, it has answered.
func (s *Server) find(w http.ResponseWriter, r *http.Request) (v Run, ok bool) {
	id := run.ID(r.PathValue("id"))
	record, err := s.Runs.Get(r.Context(), id)
	var assets []run.Asset
	if err == nil {
		assets, err = s.Runs.Assets(r.Context(), id)
	}
	switch {
	case errors.Is(err, run.ErrUnknown):
		problem(w, http.StatusNotFound, fmt.Sprintf("run %.70q is not in the queue", id))
	case err != nil:
		problem(w, http.StatusInternalServerError, err.Error())
	default:
		v = ViewRun(record, assets)
		v.live(record, s.Now)
		v.endanger(s.risks()[id])
		return v, true
	}
	return v, false
}
