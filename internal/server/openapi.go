package server

import (
	_ "embed"
	"net/http"
)

// The document that describes every page there is (OpenAPI 3.1): a test holds it
// against the routes and what they answer.
//
//go:embed openapi.json
var document []byte

func openAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(document) // the client has gone: nobody is left to tell
}
