package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/server"
)

// openDocument is the OpenAPI document as it is served.
type openDocument struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		Security  []map[string]any
		Responses map[string]struct {
			Content map[string]json.RawMessage
		}
	}
	schemas *jsonschema.Compiler
}

const documentURL = "http://assetd/openapi.json"

func documentOf(t *testing.T, s *server.Server) *openDocument {
	t.Helper()
	w := answer(s.Handler(), request("GET", "/api/v1/openapi.json", ""))
	d := &openDocument{schemas: jsonschema.NewCompiler()}
	if err := json.Unmarshal(w.Body.Bytes(), d); err != nil {
		t.Fatal(err)
	}
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource(documentURL, resource); err != nil {
		t.Fatal(err)
	}
	return d
}

// check holds an answer against what the document says of it.
func (d *openDocument) check(t *testing.T, method, path string, w *httptest.ResponseRecorder) {
	t.Helper()
	code := strconv.Itoa(w.Code)
	operation, known := d.Paths[path][strings.ToLower(method)]
	if !known {
		t.Fatalf("%s %s is not in the document", method, path)
	}
	if _, known := operation.Responses[code]; !known {
		code = "default"
	}
	kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	if _, known := operation.Responses[code].Content[kind]; !known && w.Body.Len() > 0 {
		t.Errorf("%s %s: %d %s is not in the document", method, path, w.Code, kind)
		return
	}
	if !strings.HasSuffix(kind, "json") {
		return
	}
	pointer := "#/paths/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path) +
		"/" + strings.ToLower(method) + "/responses/" + code + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema"
	schema, err := d.schemas.Compile(documentURL + pointer)
	if err != nil {
		t.Fatalf("%s: %v", pointer, err)
	}
	value, err := jsonschema.UnmarshalJSON(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	}
}

// crammed is a queue whose runs have every field there is.
type crammed struct{}

func (c crammed) run(id run.ID) run.Run {
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	return run.Run{
		ID: id, State: run.Downloading, App: "app", Status: run.Completed, Labels: map[string]string{"shot": "12"}, HandedIn: now, EndedAt: now,
		SettledAt: now, Dir: "app/run", Assets: 4, Stored: 1, Lost: 1, Bytes: 7, ErrorMessage: "why", GaveUp: "72h",
		Polls: run.Polls{Count: 3, NoAccess: true, LastError: "HTTP 500"},
	}
}

func (c crammed) List(_ context.Context, _ run.State, after run.ID, _ int) ([]run.Run, error) {
	if after != "" {
		return nil, nil
	}
	return []run.Run{c.run("run000001")}, nil
}

func (c crammed) Get(_ context.Context, id run.ID) (run.Run, error) {
	if id != "run000001" {
		return run.Run{}, run.ErrUnknown
	}
	return c.run(id), nil
}

func (c crammed) Assets(_ context.Context, id run.ID) ([]run.Asset, error) {
	at := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	key := func(name string) run.Key { return run.Key{Run: id, Kind: run.Images, ID: name} }
	return []run.Asset{
		{
			Key: key("a"), State: run.AssetStored, Source: "https://cdn/a.png", Quarantine: "aside/a",
			Stored: &run.Stored{File: "images/a.png", Size: 7, SHA256: "ff", Warnings: []string{"odd"}},
		},
		{Key: key("b"), State: run.AssetWaiting, Expiry: at, Attempts: 3, LastError: "HTTP 500"},
		{Key: key("c"), State: run.AssetLost, Loss: &run.Loss{Rule: run.LossFinal, Reason: "404", At: at}},
		{Key: key("d"), State: run.AssetWaiting},
	}, nil
}

// fields are the names that a struct has in JSON.
func fields(value any) (names []string) {
	kind := reflect.TypeOf(value)
	for i := range kind.NumField() {
		name, _, _ := strings.Cut(kind.Field(i).Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestTheDocumentHasEveryRouteAndNoOther(t *testing.T) {
	s := guarded(t, server.Tokens{})
	d := documentOf(t, s)
	if d.OpenAPI != "3.1.0" {
		t.Errorf("openapi %q", d.OpenAPI)
	}
	served, written := map[string]string{}, map[string]string{}
	for _, r := range s.Routes() {
		served[r.Method+" "+r.Path] = r.Access
	}
	for path, operations := range d.Paths {
		for method, o := range operations {
			access := "everybody"
			for _, way := range o.Security {
				if _, token := way["token"]; token {
					access = "owners"
				}
			}
			if len(o.Security) == 2 {
				access = "adders"
			}
			written[strings.ToUpper(method)+" "+path] = access
		}
	}
	if diff := cmp.Diff(served, written); diff != "" {
		t.Errorf("served - written +:\n%s", diff)
	}
}

func TestEveryAnswerIsAsTheDocumentSays(t *testing.T) {
	s := guarded(t, server.Tokens{}, func(d *server.Deps) {
		d.Gauges, d.Runs, d.Risks = full(), crammed{}, risky{{Run: "run000001", Kind: run.Images, ID: "b"}}
	})
	d := documentOf(t, s)
	for route, r := range asking(t, s) {
		if strings.HasSuffix(route.Path, "/events") || route.Path == "/metrics" {
			continue
		}
		d.check(t, route.Method, route.Path, answer(s.Handler(), r))
	}
	d.check(t, "POST", "/webhooks/magnific", answer(s.Handler(), delivery(t, "msg_1", time.Now(), `{"run_id": "run000001"}`)))
	for path, bad := range map[string]*http.Request{
		"/api/v1/runs/{id}":        request("GET", "/api/v1/runs/nobody0001", ""),
		"/api/v1/runs/{id}/assets": request("GET", "/api/v1/runs/nobody0001/assets", ""),
		"/api/v1/runs":             request("GET", "/api/v1/runs?state=done", ""),
		"/api/v1/events":           request("GET", "/api/v1/events?run=x", ""),
		"/api/v1/status":           request("GET", "/api/v1/status", "", "Host", "evil.example"),
	} {
		w := answer(s.Handler(), bad)
		if w.Code < 400 {
			t.Errorf("%s: %d", path, w.Code)
		}
		d.check(t, "GET", path, w)
	}
	w := answer(s.Handler(), request("POST", "/api/v1/runs", "x", "Content-Type", "text/plain"))
	d.check(t, "POST", "/api/v1/runs", w)
}

// The fields of what is answered and of its schema are the same, so that neither says
// less than the other.
func TestEveryFieldIsInTheDocument(t *testing.T) {
	s := guarded(t, server.Tokens{})
	var doc struct {
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(answer(s.Handler(), request("GET", "/api/v1/openapi.json", "")).Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{
		"Run": server.Run{}, "Asset": server.Asset{}, "Page": server.Page{}, "Status": server.Status{}, "Health": server.Health{}, "Space": server.Space{},
		"Happening": server.Happening{}, "Volume": server.Volume{}, "Findings": server.Findings{}, "Accepted": server.Accepted{}, "Problem": server.Problem{},
	} {
		want := fields(value)
		got := slices.Sorted(maps.Keys(doc.Components.Schemas[name].Properties))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: answered - written +:\n%s", name, diff)
		}
	}
}
