package transfer

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
)

// growing serves the first bytes of b, each time it is asked by more, up to all of it.
func growing(etag string, ranges bool, b []byte, sizes ...int) (http.HandlerFunc, *atomic.Int32) {
	var asked atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1)) - 1
		size := sizes[min(n, len(sizes)-1)]
		if !ranges {
			r.Header.Del("Range")
		}
		tag := etag
		if tag != "" {
			tag = fmt.Sprintf(`"%s%d"`, etag, size)
		}
		content(tag, b[:size])(w, r)
	}, &asked
}

func TestCase_B2_ATruncatedObjectIsReportedAndLookedAtAgain(t *testing.T) {
	for _, large := range []bool{false, true} {
		b := pixelsPNG(300, 300)
		if large {
			b = slices.Concat(b[:len(b)-12], []byte("\x00\x0f\x00\x00asPd"), make([]byte, 0x0f0004), b[len(b)-12:])
		}
		half, all := len(b)*2/3, len(b)
		for _, ranges := range []bool{true, false} {
			for _, etag := range []string{"v", ""} {
				for name, c := range map[string]struct {
					sizes    []int
					cut      []bool // of each fetch
					warnings int
				}{
					"stays":          {[]int{half}, []bool{true, false}, 1},
					"grows":          {[]int{half, all}, []bool{true, false}, 0},
					"grows slowly":   {[]int{half, half + 99, half + 99, half + 200, half + 200, all}, []bool{true, true, true, false}, 0},
					"whole at first": {[]int{all}, []bool{false}, 0},
				} {
					if name == "grows slowly" && (etag == "" || !large || !ranges) {
						continue // one request a look, which the sizes are for
					}
					t.Run(fmt.Sprintf("large %v/ranges %v/etag %q/%s", large, ranges, etag, name), func(t *testing.T) {
						h, _ := growing(etag, ranges, b, c.sizes...)
						req, part, client := request(serve(t, h)), &memPart{}, newClient(t, Config{})
						var r Result
						for i, want := range c.cut {
							var err error
							if r, err = client.Fetch(t.Context(), req, part, nil); err != nil {
								t.Fatal(err)
							}
							if r.Cut != want {
								t.Fatalf("fetch %d: cut off %v, want %v (%d bytes)", i+1, r.Cut, want, r.Size)
							}
							req.Cut = r.SHA256
							if part.mark.ETag == "" {
								part.data = nil // as a part that cannot be gone on with
							}
						}
						if len(r.Warnings) != c.warnings || c.warnings > 0 && r.Warnings[0] != "truncated" {
							t.Errorf("warnings %q", r.Warnings)
						}
						if want := c.sizes[len(c.sizes)-1]; r.Size != int64(want) {
							t.Errorf("%d bytes, want %d", r.Size, want)
						}
					})
				}
			}
		}
	}
}

// A part that holds everything is not fetched again to see that it has not changed.
func TestCase_B2_ASecondLookAtALargeObjectIsOneByte(t *testing.T) {
	b := picture(3<<20, 1)
	b = slices.Concat(b[:33], []byte("\x7f\xff\xff\xffasPd"), b[33:])
	var a asking
	part := &memPart{}
	req, c := request(serve(t, a.record(content(`"v1"`, b)))), newClient(t, Config{})
	for _, want := range []bool{true, false} {
		r, err := c.Fetch(t.Context(), req, part, nil)
		if err != nil || r.Cut != want {
			t.Fatalf("%v, %+v", err, r)
		}
		req.Cut = r.SHA256
	}
	a.want(t, "bytes=0-", "bytes=0-0")
}

func TestCase_B2_AFailedLookLeavesThePartAsItIs(t *testing.T) {
	b := picture(3<<20, 1)
	b = slices.Concat(b[:33], []byte("\x7f\xff\xff\xffasPd"), b[33:])
	part, c := &memPart{}, newClient(t, Config{})
	r := fetched(t, c, serve(t, content(`"v1"`, b)), part)
	for status, class := range map[int]Class{403: Refused, 404: Gone, 500: Server, 503: Throttled} {
		req := request(serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		req.Cut = r.SHA256
		_, err := c.Fetch(t.Context(), req, part, nil)
		failure(t, err, class)
		if !bytes.Equal(part.data, b) {
			t.Fatalf("%d: the part has %d bytes left", status, len(part.data))
		}
	}
}
