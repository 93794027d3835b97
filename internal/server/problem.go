package server

import (
	"encoding/json"
	"net/http"
)

// Problem is why a request was not done (RFC 9457). Faults are single ones, where
// there can be several.
type Problem struct {
	Type   string   `json:"type"` // about:blank: the title says it
	Title  string   `json:"title"`
	Status int      `json:"status"`
	Detail string   `json:"detail"`             // what is wrong, and what to do
	Asked  string   `json:"instance,omitempty"` // the path that was asked for
	Faults []string `json:"faults,omitempty"`
}

const problemType = "application/problem+json"

// problem answers with problem details.
func problem(w http.ResponseWriter, status int, detail string, faults ...string) {
	w.Header().Set("Content-Type", problemType)
	p := Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Faults: faults}
	if a, ok := w.(*answering); ok {
		p.Asked = a.path
	}
	reply(w, status, p)
}

// answering is an answer on its way.
type answering struct {
	http.ResponseWriter
	path  string // that was asked for
	begun bool   // something of it has gone out
}

// longestInstance bounds how much of a path is given back, in bytes.
const longestInstance = 200

func newAnswering(w http.ResponseWriter, r *http.Request) *answering {
	path := r.URL.EscapedPath()
	if len(path) > longestInstance {
		path = ""
	}
	return &answering{ResponseWriter: w, path: path}
}

// WriteHeader begins the answer.
func (a *answering) WriteHeader(status int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(status)
}

// Write goes on with it.
func (a *answering) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController through.
func (a *answering) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func reply(w http.ResponseWriter, status int, v any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) //nolint:errcheck // the client has gone: nobody is left to tell
}
