package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Happening is an event as it is streamed. Its texts are those of the log and hold no
// secret.
type Happening struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // as the log's message
	Text   string    `json:"text"` // the kind with its cause, in one line
	Run    run.ID    `json:"run_id,omitempty"`
	Asset  *AssetKey `json:"asset,omitempty"`
	Host   string    `json:"host,omitempty"`
	File   string    `json:"file,omitempty"`
	Error  string    `json:"error,omitempty"`
	Hint   string    `json:"hint,omitempty"` // what a person can do
	Note   string    `json:"note,omitempty"`
	State  run.State `json:"state,omitempty"` // of the run, where it changed
	Count  int       `json:"count,omitempty"`
	Lost   int       `json:"lost,omitempty"`
	Bytes  int64     `json:"bytes,omitempty"`
	Missed bool      `json:"missed,omitempty"` // events before this one are not known any more
}

// AssetKey names an asset of the event's run.
type AssetKey struct {
	Kind run.Kind `json:"kind"`
	ID   string   `json:"id"`
}

func happening(e run.Event, now time.Time) Happening {
	h := Happening{
		Time: now.UTC(), Kind: string(e.Kind), Text: e.Text(), Run: e.Run, Host: e.Host, File: e.File, Hint: e.Hint, Note: e.Note,
		State: e.State, Count: e.Count, Lost: e.Lost, Bytes: e.Bytes,
	}
	if e.Asset.Run != "" {
		h.Run, h.Asset = e.Asset.Run, &AssetKey{e.Asset.Kind, e.Asset.ID}
	}
	if e.Err != nil {
		h.Error = e.Err.Error()
	}
	return h
}

// How many events are remembered for those who were away for a moment, how many may
// wait for one who reads slowly, how many may read at once, and how often a stream says
// that it is still there.
const (
	eventsKept    = 2000
	eventsWaiting = 512
	mostReaders   = 32
	heartbeat     = 15 * time.Second
	writePatience = 10 * time.Second
)

// told is one remembered event.
type told struct {
	seq  uint64
	run  run.ID
	data []byte // JSON
}

// Events are the last events, and those who follow them. Safe for concurrent use.
type Events struct {
	epoch string // tells this process's numbers from another's

	mu      sync.Mutex
	seq     uint64
	kept    [eventsKept]told // event n stands at n modulo its length
	readers map[*reader]bool
	closed  bool
}

// reader is one who follows. Its channel is closed when it is too slow, or at a stop.
type reader struct {
	events chan told
	run    run.ID // empty: of all runs and of what is around them
}

// NewEvents remembers nothing yet.
func NewEvents() *Events {
	return &Events{epoch: strconv.FormatInt(time.Now().UnixMilli(), 36), readers: map[*reader]bool{}}
}

// Tell takes an event, and never waits for who reads.
func (e *Events) Tell(event run.Event) {
	data, err := json.Marshal(happening(event, time.Now()))
	if err != nil {
		return // texts and numbers alone: it cannot be
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	id := event.Run
	if id == "" {
		id = event.Asset.Run
	}
	e.seq++
	t := told{e.seq, id, data}
	e.kept[e.seq%eventsKept] = t
	for r := range e.readers {
		if !r.wants(t) {
			continue
		}
		select {
		case r.events <- t:
		default:
			e.drop(r) // it comes again, and says where it was
		}
	}
}

func (r *reader) wants(t told) bool { return r.run == "" || r.run == t.run }

func (e *Events) drop(r *reader) {
	delete(e.readers, r)
	close(r.events)
}

// join begins to follow after the event with that number; missed where some that came
// after it are not known any more. ok is false where there are too many readers.
func (e *Events) join(id run.ID, after uint64, known bool) (r *reader, past []told, missed, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed || len(e.readers) >= mostReaders {
		return nil, nil, false, false
	}
	r = &reader{events: make(chan told, eventsWaiting), run: id}
	e.readers[r] = true
	if !known {
		return r, nil, false, true
	}
	oldest := uint64(1)
	if e.seq > eventsKept {
		oldest = e.seq - eventsKept + 1
	}
	missed = after+1 < oldest
	for n := max(after+1, oldest); n <= e.seq; n++ {
		if t := e.kept[n%eventsKept]; r.wants(t) {
			past = append(past, t)
		}
	}
	return r, past, missed, true
}

func (e *Events) leave(r *reader) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.readers[r] {
		e.drop(r)
	}
}

// close ends all streams: the server stops.
func (e *Events) close() {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for r := range e.readers {
		e.drop(r)
	}
}

// id is an event's as a client gets it and sends it back.
func (e *Events) id(seq uint64) string { return e.epoch + "-" + strconv.FormatUint(seq, 10) }

// after reads the ID that a client saw last. known is false where it named none. One of
// another process, or none of ours, is as good as the very first: all that is
// remembered comes, and that something may be missing is said.
func (e *Events) after(text string) (seq uint64, known, foreign bool) {
	if text == "" {
		return 0, false, false
	}
	epoch, number, _ := strings.Cut(text, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil || epoch != e.epoch || seq > e.seq {
		return 0, true, true
	}
	return seq, true, false
}

// follow streams events as they happen (server-sent events, WHATWG HTML, section 9.2):
// of all, or of one run with ?run=ID. Last-Event-ID goes on from there.
func (s *Server) follow(w http.ResponseWriter, r *http.Request) {
	id := run.ID(r.URL.Query().Get("run"))
	if id != "" && !run.ValidID(string(id)) {
		problem(w, http.StatusBadRequest, fmt.Sprintf("run %.40q is no run ID: 4 to 64 of A-Z a-z 0-9 _ -", id))
		return
	}
	after, known, foreign := s.Events.after(r.Header.Get("Last-Event-ID"))
	reader, past, missed, ok := s.Events.join(id, after, known)
	if !ok {
		w.Header().Set("Retry-After", "5")
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d others follow the events, or the daemon stops: try again", mostReaders))
		return
	}
	defer s.Events.leave(reader)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would keep events back
	out := stream{w: w, control: http.NewResponseController(w), events: s.Events}
	// The server's own limit is for requests that end: it would end this one, too.
	if err := out.control.SetReadDeadline(time.Time{}); err != nil {
		problem(w, http.StatusInternalServerError, err.Error())
		return
	}
	if !out.send("retry: 2000\n\n") {
		return
	}
	if (missed || foreign) && !out.event(0, missedEvent()) {
		return
	}
	for _, t := range past {
		if !out.event(t.seq, t.data) {
			return
		}
	}
	out.follow(r, reader)
}

// missedKind is the kind of what a stream begins with where events are missing.
const missedKind = "events were missed"

func missedEvent() []byte {
	data, _ := json.Marshal(Happening{Time: time.Now().UTC(), Kind: missedKind, Text: missedKind, Missed: true, Hint: "read /api/v1/runs for how things stand"})
	return data
}

// stream writes events to one client.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	events  *Events
}

// follow goes on until the client or the server ends it.
func (o stream) follow(r *http.Request, from *reader) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for ok := true; ok; {
		select {
		case <-r.Context().Done():
			return
		case t, more := <-from.events:
			ok = more && o.event(t.seq, t.data)
		case <-beat.C:
			ok = o.send(": still here\n\n")
		}
	}
}

func (o stream) event(seq uint64, data []byte) bool {
	if seq == 0 { // no place in the stream
		return o.send(fmt.Sprintf("data: %s\n\n", data))
	}
	return o.send(fmt.Sprintf("id: %s\ndata: %s\n\n", o.events.id(seq), data))
}

// send writes, and reports whether the client still takes it.
func (o stream) send(text string) bool {
	// The server's own limit is for answers that end.
	_ = o.control.SetWriteDeadline(time.Now().Add(writePatience))
	_, err := o.w.Write([]byte(text))
	return err == nil && o.control.Flush() == nil
}
