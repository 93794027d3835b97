package transfer

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/assetd/assetd/internal/run"
)

// rangeless refuses every request that has the field with that status.
func rangeless(field string, status int, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(field) != "" {
			w.WriteHeader(status)
			return
		}
		h(w, r)
	}
}

func TestCase_A7_PlainRequestHasNoRange(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 405, 406, 410, 416, 417, 422, 451, 500, 501, 502, 503, 504, 505, 304} {
		for _, n := range []int{100, big, minParallel + 1000} {
			body, h := sized(n, `"v1"`)
			url := serve(t, rangeless("Range", status, h))
			c := newClient(t, Config{Connections: 4})
			part := &memPart{}
			_, err := c.Fetch(t.Context(), request(url), part, nil)
			if status == 416 { // looked into at once, as ever
				if err != nil {
					t.Fatal(err)
				}
				continue
			}
			if f, ok := err.(*Failure); !ok || f.Status != status || !f.Ranged || f.Resumed { //nolint:errorlint // it is one
				t.Fatalf("%d: %+v", status, err)
			}
			req := request(url)
			req.Plain = true
			r, err := c.Fetch(t.Context(), req, part, nil)
			if err != nil || !r.Proven {
				t.Fatalf("%d: asked without Range: %+v, %v", status, r, err)
			}
			mustBe(t, r, part, body)
		}
	}
}

// The bytes at hand are kept until an answer that replaces them is there.
func TestCase_A8_PlainRequestBeginsThePartAgain(t *testing.T) {
	body, h := sized(big, `"v1"`)
	var a asking
	url := serve(t, a.record(each(cut(300_000, h), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, h)))
	c := newClient(t, Config{})
	part := &memPart{}
	failed(t, c, url, part, Network)
	req := request(url)
	req.Plain = true
	_, err := c.Fetch(t.Context(), req, part, nil)
	if f := failure(t, err, Server); f.Ranged || f.Resumed || len(part.data) != 300_000 {
		t.Errorf("%+v, %d bytes left of 300000", f, len(part.data))
	}
	r, err := c.Fetch(t.Context(), req, part, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, r, part, body)
	a.want(t, "bytes=0-", "", "")
}

func TestCase_A8_RefusedResumeIsToldApart(t *testing.T) {
	for _, status := range []int{400, 403, 404, 500, 501, 503} {
		_, h := sized(big, `"v1"`)
		url := serve(t, rangeless("If-Range", status, each(cut(300_000, h), h)))
		c := newClient(t, Config{})
		part := &memPart{}
		if f := failed(t, c, url, part, Network); !f.Ranged || f.Resumed {
			t.Errorf("the cut: %+v", f)
		}
		_, err := c.Fetch(t.Context(), request(url), part, nil)
		if f, ok := err.(*Failure); !ok || f.Status != status || !f.Ranged || !f.Resumed { //nolint:errorlint // it is one
			t.Errorf("%d: %+v", status, err)
		}
		if len(part.data) != 300_000 {
			t.Errorf("%d: %d bytes left", status, len(part.data))
		}
	}
}

func TestCase_A8_FailedPreconditionAsksForTheWholeObjectAtOnce(t *testing.T) {
	body, h := sized(big, `"v1"`)
	var a asking
	url := serve(t, a.record(rangeless("If-Range", http.StatusPreconditionFailed, each(cut(300_000, h), h))))
	c := newClient(t, Config{})
	part := &memPart{}
	failed(t, c, url, part, Network)
	mustBe(t, fetched(t, c, url, part), part, body)
	a.want(t, "bytes=0-", `bytes=300000- "v1"`, "")
}

// Every connection but the first asks under If-Range.
func TestCase_A8_ParallelTransferEndsWhereResumesAreRefused(t *testing.T) {
	for _, status := range []int{400, 404, 412, 500, 501} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			body, h := sized(minParallel+(4<<20), `"v1"`)
			url := serve(t, rangeless("If-Range", status, each(cut(minParallel, h), h)))
			c := newClient(t, Config{Connections: 4})
			part := &memPart{}
			req := request(url)
			for range 5 {
				r, err := c.Fetch(t.Context(), req, part, nil)
				if err == nil {
					mustBe(t, r, part, body)
					return
				}
				f := err.(*Failure) //nolint:errorlint,forcetypeassert // it is one
				req.Plain = f.Resumed
			}
			t.Error("not fetched in five attempts")
		})
	}
}

func TestPlainRequestForAWholePartMakesNone(t *testing.T) {
	body, _ := sized(big, "")
	part := &memPart{data: body, mark: run.PartMark{ETag: `"v1"`, Total: int64(len(body))}}
	req := request("https://cdn.invalid/render.png?" + secret)
	req.Plain = true
	r, err := newClient(t, Config{}).Fetch(t.Context(), req, part, nil)
	if err != nil || !r.Proven || !strings.HasPrefix(r.ContentType, "image/") {
		t.Fatalf("%+v, %v", r, err)
	}
}
