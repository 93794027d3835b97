package transfer

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
)

func TestCase_A3_LookSaysWhatThereIs(t *testing.T) {
	head := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	const modified = "Wed, 25 Feb 2026 12:00:00 GMT"
	for name, c := range map[string]struct {
		status int
		header http.Header
		want   Facts
		class  Class
	}{
		"strong":           {206, head("Content-Range", "bytes 0-0/4711", "ETag", `"v1"`), Facts{Total: 4711, Validator: `"v1"`}, ""},
		"weak":             {206, head("Content-Range", "bytes 0-0/4711", "ETag", `W/"v1"`), Facts{Total: 4711, Validator: `W/"v1"`}, ""},
		"modified":         {206, head("Content-Range", "bytes 0-0/4711", "Last-Modified", modified), Facts{Total: 4711, Validator: modified}, ""},
		"both":             {206, head("Content-Range", "bytes 0-0/4711", "ETag", `"v1"`, "Last-Modified", modified), Facts{Total: 4711, Validator: `"v1"`}, ""},
		"neither":          {206, head("Content-Range", "bytes 0-0/4711"), Facts{Total: 4711}, ""},
		"unknown total":    {206, head("Content-Range", "bytes 0-0/*", "ETag", `"v1"`), Facts{Total: -1, Validator: `"v1"`}, ""},
		"no Content-Range": {206, head("ETag", `"v1"`), Facts{Total: -1, Validator: `"v1"`}, ""},
		"everything":       {200, head("Content-Length", "3", "ETag", `"v1"`), Facts{Total: 3, Validator: `"v1"`, All: true}, ""},
		"403":              {403, head(), Facts{}, Refused},
		"404":              {404, head(), Facts{}, Gone},
		"416":              {416, head("Content-Range", "bytes */0"), Facts{}, Server},
		"503":              {503, head(), Facts{}, Throttled},
	} {
		t.Run(name, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Range"); got != "bytes=0-0" {
					t.Errorf("asked for %q", got)
				}
				for k, v := range c.header {
					w.Header()[k] = v
				}
				w.WriteHeader(c.status)
				if c.status < 300 {
					fmt.Fprint(w, "abc"[:1+2*(206-c.status)/6])
				}
			})
			got, err := newClient(t, Config{}).Look(t.Context(), request(url))
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if class := classOf(err); class != c.class {
				t.Errorf("%q, want %q", class, c.class)
			}
		})
	}
}

func classOf(err error) Class {
	if err == nil {
		return ""
	}
	return err.(*Failure).Class
}

// What came while a run went on is told with what tells it from later versions.
func TestCase_A4_AResultHasItsValidator(t *testing.T) {
	for name, c := range map[string]struct {
		field, value string
		size         int
	}{
		"small, strong": {"ETag", `"v1"`, 900}, "large, strong": {"ETag", `"v1"`, 900_000},
		"small, weak": {"ETag", `W/"v1"`, 900}, "large, weak": {"ETag", `W/"v1"`, 900_000},
		"large, modified": {"Last-Modified", "Wed, 25 Feb 2026 12:00:00 GMT", 900_000},
	} {
		body := picture(c.size, 3)
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(c.field, c.value)
			http.ServeContent(w, r, "a.png", time.Time{}, bytes.NewReader(body))
		})
		res, err := newClient(t, Config{}).Fetch(t.Context(), request(url), &memPart{}, nil)
		if err != nil || res.Validator != c.value {
			t.Errorf("%s: %q, %v", name, res.Validator, err)
		}
	}
}

// A part is gone on with only where it is of the same object, and where it was whole
// before its run ended it is not believed without a question.
func TestCase_A3_APartOfAnotherObjectIsBegunAgain(t *testing.T) {
	body := picture(600_000, 5)
	path := "/private/1/render.png"
	for name, c := range map[string]struct {
		url         string // that the part is of, below the server
		have        int    // bytes of it
		early, then bool   // begun, and asked for, while the run goes on
		ranges      []string
	}{
		"the same":                     {path + "?token=a", 400_000, false, false, []string{"bytes=400000-"}},
		"signed again":                 {path + "?token=b&Expires=4", 400_000, false, false, []string{"bytes=400000-"}},
		"an early part":                {path + "?token=a", 400_000, true, false, []string{"bytes=400000-"}},
		"a preview":                    {path + "?token=a&preview=true", 400_000, true, false, []string{"bytes=0-"}},
		"another path":                 {"/private/2/render.png?token=a", 400_000, false, false, []string{"bytes=0-"}},
		"whole":                        {path + "?token=a", 600_000, false, false, nil},
		"whole early, its run goes on": {path + "?token=a", 600_000, true, true, nil},
		"whole early, its run ended":   {path + "?token=a", 600_000, true, false, []string{"bytes=0-"}},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Range"))
				w.Header().Set("ETag", `"v1"`)
				http.ServeContent(w, r, "a.png", time.Time{}, bytes.NewReader(body))
			})
			base := url[:len("http://")+bytes.IndexByte([]byte(url[len("http://"):]), '/')]
			part := &memPart{data: slices.Clone(body[:c.have]), mark: run.PartMark{
				ETag: `"v1"`, Total: int64(len(body)), Object: signedurl.Object(base + c.url), Early: c.early,
			}}
			req := request(base + path + "?token=a")
			req.Early = c.then
			res, err := newClient(t, Config{}).Fetch(t.Context(), req, part, nil)
			if err != nil || res.Size != int64(len(body)) || !bytes.Equal(part.data, body) {
				t.Errorf("%v: %d bytes", err, len(part.data))
			}
			if !slices.Equal(asked, c.ranges) {
				t.Errorf("asked for %q, want %q", asked, c.ranges)
			}
			if len(c.ranges) > 0 && part.resets > 0 && (part.mark.Object != signedurl.Object(req.URL) || part.mark.Early != c.then) {
				t.Errorf("marked as %s", strconv.Quote(fmt.Sprint(part.mark)))
			}
		})
	}
}
