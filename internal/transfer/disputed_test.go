package transfer

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// gzipped is b as a bucket stores it.
func gzipped(b []byte) []byte {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(b)
	_ = w.Close()
	return packed.Bytes()
}

func TestCase_A9_HashOfTheStoredFormIsIgnored(t *testing.T) {
	for _, n := range []int{1000, big} {
		body := picture(n, 7)
		stored := digests(gzipped(body))
		for name, mark := range map[string]map[string]string{
			"stored encoding":            {"X-Goog-Stored-Content-Encoding": "gzip"},
			"stored encoding, any case":  {"x-goog-stored-content-encoding": "GZIP "},
			"stored encoding, another":   {"X-Goog-Stored-Content-Encoding": "br"},
			"warning":                    {"Warning": "214 UploadServer gunzipped"},
			"warning, quoted":            {"Warning": `214 - "Transformation Applied" "Wed, 25 Feb 2026 12:00:00 GMT"`},
			"warning, the second":        {"Warning": `110 - "Response is Stale", 214 gcs "gunzipped"`},
			"warning, alone":             {"Warning": "214"},
			"transformations":            {"X-GUploader-Response-Body-Transformations": "gunzipped"},
			"transformations, any other": {"X-Guploader-Response-Body-Transformations": "resized"},
		} {
			for hash, d := range stored {
				for framing, h := range map[string]http.HandlerFunc{"length": plain(content("", body)), "chunked": chunked(200, "", body)} {
					url := serve(t, func(w http.ResponseWriter, r *http.Request) {
						for field, value := range mark {
							w.Header().Set(field, value)
						}
						w.Header().Set("X-Goog-Stored-Content-Length", strconv.Itoa(len(gzipped(body))))
						w.Header().Add(d[0], d[1])
						h(w, r)
					})
					part := &memPart{}
					r := fetched(t, newClient(t, Config{}), url, part)
					mustBe(t, r, part, body)
					if !r.Proven || len(r.Warnings) > 0 {
						t.Errorf("%s, %s, %s: %+v", name, hash, framing, r)
					}
				}
			}
		}
	}
}

func TestCase_A9_HashOfABodyThatIsAsStoredCounts(t *testing.T) {
	body, wrong := picture(1000, 7), picture(1000, 8)
	for field, value := range map[string]string{
		"X-Goog-Stored-Content-Encoding": "identity", "Warning": `110 - "Response is Stale"`, "X-Goog-Stored-Content-Length": "1000",
		"X-GUploader-Response-Body-Transformations": "",
	} {
		d := digests(wrong)["google, md5"]
		failed(t, newClient(t, Config{}), serve(t, with(field, value, with(d[0], d[1], content("", body)))), &memPart{}, Network)
	}
}

func TestCase_A10_TwoFetchesThatAgreeOverruleAWrongDigest(t *testing.T) {
	for _, n := range []int{1000, big} {
		body, wrong := picture(n, 7), picture(n, 8)
		for name, bad := range digests(wrong) {
			for framing, h := range map[string]http.HandlerFunc{"ranges": content(`"v1"`, body), "none": plain(content(`"v1"`, body)), "chunked": chunked(200, "", body)} {
				url := serve(t, with(bad[0], bad[1], h))
				c := newClient(t, Config{})
				part := &memPart{}
				f := failed(t, c, url, part, Network)
				if f.SHA256 != sum(body) || f.Status/100 != 2 || len(part.data) != 0 {
					t.Fatalf("%s, %s: %+v, %d bytes left", name, framing, f, len(part.data))
				}
				req := request(url)
				req.Before = f.SHA256
				r, err := c.Fetch(t.Context(), req, part, nil)
				if err != nil {
					t.Fatalf("%s, %s: %v", name, framing, err)
				}
				mustBe(t, r, part, body)
				if !r.Proven || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "announced") {
					t.Errorf("%s, %s: proven %v, warnings %q", name, framing, r.Proven, r.Warnings)
				}
			}
		}
	}
}

func TestCase_A10_WrongDigestStandsOverOtherBytesAndHalfAContainer(t *testing.T) {
	body, wrong := picture(1000, 7), picture(1000, 8)
	d := digests(wrong)["Content-MD5"]
	half := pixelsPNG(64, 64)
	half = half[:len(half)-20]
	for name, c := range map[string]struct {
		body   []byte
		before string
	}{
		"the first fetch":  {body, ""},
		"other bytes":      {body, sum(wrong)},
		"a container, cut": {half, sum(half)},
	} {
		url := serve(t, with(d[0], d[1], content("", c.body)))
		req := request(url)
		req.Before = c.before
		part := &memPart{}
		_, err := newClient(t, Config{}).Fetch(t.Context(), req, part, nil)
		if f := failure(t, err, Network); f.SHA256 != sum(c.body) || len(part.data) != 0 {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

// Where the connection's end is the body's, nothing proves it, and a digest that
// contradicts it does not either.
func TestCase_A10_BodyWithoutAProvenEndStaysUnproven(t *testing.T) {
	body := picture(1000, 7)
	d := digests(picture(1000, 8))["Content-MD5"]
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n" + d[0] + ": " + d[1] + "\r\n\r\n" + string(body)))
	})
	req := request(url)
	req.Before = sum(body)
	part := &memPart{}
	r, err := newClient(t, Config{}).Fetch(t.Context(), req, part, nil)
	if err != nil || r.Proven || len(r.Warnings) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
