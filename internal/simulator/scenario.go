package simulator

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// Sizes, in bytes.
const (
	kib = 1 << 10
	mib = 1 << 20
)

// scene adds runs whose IDs, and whose assets' IDs, come from the world's seed.
type scene struct {
	sim   *Sim
	name  string
	ids   []run.ID
	drawn int
	err   error
}

func (c *scene) add(opts ...RunOption) {
	id := run.ID(c.sqid("run", len(c.ids)))
	c.ids = append(c.ids, id)
	c.err = errors.Join(c.err, c.sim.AddRun(id, opts...))
}

// id is an asset's, another one each time.
func (c *scene) id() string {
	c.drawn++
	return c.sqid("asset", c.drawn)[:8]
}

// sqid is an ID as the API makes them: ten letters and digits.
func (c *scene) sqid(what string, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	own := noise(seeded(c.sim.cfg.seed, c.name, what, strconv.Itoa(n)))
	b := make([]byte, 10)
	for i := range b {
		b[i] = alphabet[own.word(uint64(i))%uint64(len(alphabet))]
	}
	return string(b)
}

// Demo adds what `assetd demo` shows: a dozen runs of several apps, every end that
// a run can have, and some faults that heal. The runs take five seconds from their
// first polls on at pace 1, the largest transfer two; at pace 10 a tenth. It
// returns the IDs to hand in.
func Demo(s *Sim, pace float64) ([]run.ID, error) {
	c := &scene{sim: s, name: "demo"}
	after := func(seconds float64) time.Duration {
		return time.Duration(seconds / pace * float64(time.Second))
	}
	slow := Slow(bufferSize, after(float64(bufferSize)/(6*mib))) // 6 MiB a second and connection
	png := func(size int64, opts ...AssetOption) RunOption {
		return Image(c.id(), size*kib, append(opts, Pixels(512, 512))...)
	}
	film := func(size int64, opts ...AssetOption) RunOption { return Video(c.id(), size*mib, append(opts, slow)...) }
	sound := func(size int64, opts ...AssetOption) RunOption { return Audio(c.id(), size*kib, opts...) }
	add := func(app string, pending, running float64, opts ...RunOption) {
		c.add(append([]RunOption{App(app), FromFirstPoll(), Pending(after(pending)), Running(after(running))}, opts...)...)
	}
	const portraits, films, voices, posters = "uqzQLDr2Aw", "Kc81mTfWx0", "b7RzNq3eLd", "Yp4vHs90Ja"

	c.add(App(portraits), FromFirstPoll(), Pending(after(0.5)), Timeline(Phase{Status: run.Running, For: after(1.5), Lists: true}),
		png(300, EarlyPreview), png(420, EarlyPart), png(380, EarlyPath), png(340))
	c.add(App(portraits), FromFirstPoll(), Unknown(after(1)), Running(after(1)), png(200, JPEG), png(220, JPEG))
	add(films, 1, 4, film(12), film(8))
	add(films, 0, 2, film(10, Cut(4*mib).Times(1)), png(500))
	add(voices, 0.2, 1, sound(600), sound(900), sound(80, MP3))
	add(posters, 0, 3, Status(http.StatusBadGateway).Times(1), png(700), film(5), sound(400))
	add(posters, 0, 2, Ends(run.CompletedWithErrors), ErrorMessage("node upscale failed: out of memory"), png(250), png(260))
	add(posters, 0, 2, Ends(run.Failed), ErrorMessage("the prompt was refused"))
	add(films, 2, 0, Ends(run.Cancelled), NullResult)
	add(voices, 0, 0.5, NullLists) // completed, and nothing came of it
	add(portraits, 0, 1, Signing{Dead: 1, Renewal: RenewAlways}, png(330), png(310))
	batch := []RunOption{Bare(), Signing{Form: Underscores}, png(90, Status(http.StatusServiceUnavailable).RetryAfter(time.Second).Times(1))}
	for range 11 {
		batch = append(batch, png(64))
	}
	add(posters, 1, 2, batch...)
	return c.ids, c.err
}

// Images adds runs of PNGs of so many bytes, each run completed at once: the work
// that many small files are.
func Images(s *Sim, runs, each int, size int64) ([]run.ID, error) {
	c := &scene{sim: s, name: fmt.Sprintf("images %d %d", each, size)}
	for range runs {
		var images []RunOption
		for range each {
			images = append(images, Image(c.id(), size))
		}
		c.add(images...)
	}
	return c.ids, c.err
}

// Videos adds runs of one MP4 of so many bytes each, completed at once.
func Videos(s *Sim, runs int, size int64) ([]run.ID, error) {
	c := &scene{sim: s, name: fmt.Sprintf("videos %d", size)}
	for range runs {
		c.add(Video(c.id(), size))
	}
	return c.ids, c.err
}

// Kill adds many small runs with faults that heal by themselves, drawn from the
// seed, for a daemon that is killed while it works on them: whatever happens to
// it, in the end all is stored. Another seed adds other runs to the same simulator.
func Kill(s *Sim, seed uint64, runs int) ([]run.ID, error) {
	c := &scene{sim: s, name: fmt.Sprintf("kill %d", seed)}
	dice := rand.New(rand.NewPCG(seed, s.cfg.seed))
	polls := []RunOption{
		UnknownPolls(1), EmptyPolls(1), Pending(100 * time.Millisecond), Running(200 * time.Millisecond), FromFirstPoll(), Bare(),
		Status(http.StatusInternalServerError).Times(1), HTML().Times(1), Half().Times(1),
		Signing{Form: Encoded},
		Signing{Form: Fields},
	}
	quick := []AssetOption{
		Status(http.StatusBadGateway).Times(1), HTML().Times(1), Empty().Times(1), Cut(3000).Times(1), Reset(3500).Times(1),
		WrongLength(500).Times(1), WrongLength(-500).Times(1), WrongRange(7).Times(1), WrongTotal(9).Times(1), RangeUnder200().After(1).Times(1),
		NoRange(), WeakETag(), NoETag(), Chunked(), CloseDelimited(), Slow(16*kib, 5*time.Millisecond), Redirect(http.StatusFound, 2),
	}
	early := []AssetOption{EarlyPreview, EarlyPath, EarlyPart, EarlyMissing}
	for range runs {
		opts := []RunOption{App("kill")}
		lists := dice.IntN(4) == 0 // before it has ended
		if lists {
			opts = append(opts, Timeline(Phase{Status: run.Running, For: 400 * time.Millisecond, Lists: true}), FromFirstPoll())
		}
		for range dice.IntN(3) {
			opts = append(opts, polls[dice.IntN(len(polls))])
		}
		for range 1 + dice.IntN(6) {
			var strange []AssetOption
			if dice.IntN(3) == 0 {
				strange = append(strange, quick[dice.IntN(len(quick))])
			}
			if n := dice.IntN(6); lists && n < len(early) {
				strange = append(strange, early[n])
			}
			switch size := dice.Int64N; dice.IntN(6) {
			case 0:
				opts = append(opts, Video(c.id(), 32*kib+size(mib), strange...))
			case 1:
				opts = append(opts, Audio(c.id(), 4*kib+size(200*kib), strange...))
			default:
				opts = append(opts, Image(c.id(), 4*kib+size(96*kib), strange...))
			}
		}
		if dice.IntN(8) == 0 {
			opts = append(opts, Ends(run.CompletedWithErrors))
		}
		c.add(opts...)
	}
	return c.ids, c.err
}

// Faults adds runs of one asset each, for every fault that can heal one that meets
// it: in the end all is stored as Expected says, and Unfired lists nothing. Left
// out are those that nobody can see through, such as SameETag, or whose bytes are
// others in the end, as those of Gzip.
func Faults(s *Sim) ([]run.ID, error) {
	c := &scene{sim: s, name: "faults"}
	for _, met := range pollFaults() {
		c.add(append(met, Image(c.id(), 8*kib))...)
	}
	for _, early := range []Early{EarlyPreview, EarlyPath, EarlyPart, EarlyMissing} {
		c.add(Timeline(Phase{Status: run.Running, Polls: 4, Lists: true}), Image(c.id(), 768*kib, early))
	}
	for _, met := range downloadFaults() {
		c.add(Signing{Renewal: RenewAlways}, Image(c.id(), 768*kib, met...)) // large enough to be resumed
	}
	return c.ids, c.err
}

// pollFaults are the sets of faults that the polls of a run meet in Faults.
func pollFaults() [][]RunOption {
	const second = time.Second
	return [][]RunOption{
		{UnknownPolls(2)},
		{EmptyPolls(1)},
		{Timeline(Phase{Status: "thinking", Polls: 1})},
		{Timeline(Phase{Status: run.Running, Polls: 1}, Phase{Status: run.Pending, Polls: 1})},
		{Timeline(Phase{Status: run.Running, Polls: 1, Lists: true})},
		{Bare(), NoLists},
		{Status(http.StatusInternalServerError).Times(2)},
		{Status(http.StatusUnauthorized).Times(1)},
		{Status(http.StatusForbidden).Times(1)},
		{Status(http.StatusGone).Times(1)},
		{Status(http.StatusUnprocessableEntity).Times(1)},
		{Status(http.StatusRequestTimeout).Times(1)},
		{Ends("COMPLETED")},
		{Timeline(Phase{Status: "Running", Polls: 1}), Ends("Completed-With-Errors")},
		{Field("score", NaN)},
		{Field("input", map[string]any{"image": "https://127.0.0.1:9/in.png"})},
		{Status(http.StatusTooManyRequests).Times(1)},
		{Status(http.StatusTooManyRequests).RetryAfter(second).Times(1)},
		{Status(http.StatusTooManyRequests).RetryAfterDate(second).Times(1)},
		{HTML().Times(1)},
		{Empty().Times(1)},
		{Half().Times(1)},
		{Huge(16 * mib).Times(1)},
		{GzipBomb(64).Times(1)},
		{RedirectTo("http://127.0.0.1:9/").Times(1)},
		{Cut(10).Times(1)},
		{Reset(10).Times(1)},
		{WrongLength(10).Times(1)},
		{Latency(50 * time.Millisecond)},
		{Header("Age", "600")},
		{Header("Date", "some day")},
		{Signing{Dead: 1, Renewal: RenewAlways}},
		{Signing{Form: Underscores}},
		{Signing{Form: Encoded, Query: "preview=true&size=420"}},
		{Signing{Form: Fields, Midnight: true}},
		{Signing{Form: Opaque}},
	}
}

// downloadFaults are the sets of faults that an asset's downloads meet in Faults.
// Those of a resumed download need a first one that was cut.
func downloadFaults() [][]AssetOption {
	half := Cut(400 * kib).Times(1)
	return [][]AssetOption{
		{Status(http.StatusInternalServerError).Times(1)},
		{Status(http.StatusForbidden).Times(1)},
		{Status(http.StatusNotFound).Times(1)},
		{Status(http.StatusGone).Times(1)},
		{Status(http.StatusTooManyRequests).Times(1)},
		{Status(http.StatusServiceUnavailable).RetryAfter(time.Second).Times(1)},
		{HTML().Times(1)},
		{JSON().Times(1)},
		{Empty().Times(1)},
		{EncodedPage("br").Times(1)},
		{EncodedPage("zstd", "gzip").With("Content-Encoding", "").Times(2)},
		{ContentEncoded("zstd").Times(1)},
		{ContentEncoded("br").With("Content-Encoding", "").Times(2)},
		{WrongEncoding("aws-chunked")},
		{Unfinished(400 * kib).Times(1)},
		{half},
		{Reset(400 * kib).Times(1)},
		{Stall(400 * kib).Times(1)},
		{Silent().Times(1)},
		{WrongLength(1000).Times(1)},
		{WrongLength(-1000).Times(1)},
		{RawHeader("Content-Length", "12").Times(1)},
		{BadChunk(400 * kib).Times(1)},
		{Chunked()},
		{CloseDelimited()},
		{half, NoRange()},
		{half, WrongRange(-1000).Times(1)},
		{half, WrongTotal(1000).After(1).Times(1)},
		{half, ShortRange(64 * kib).After(1).Times(1)},
		{half, NoContentRange().After(1).Times(1)},
		{half, Multipart().After(1).Times(1)},
		{half, Unsatisfiable().After(1).Times(1)},
		{half, RangeUnder200().After(1).Times(1)},
		{half, Changed().After(1).Times(1)},
		{half, ChangedTo(200 * kib).After(1).Times(1)},
		{half, Changed().After(1).Times(1), IgnoreIfRange().Times(1)},
		{half, NoETag()},
		{half, WeakETag()},
		{half, NewETag()},
		{Digest()},
		{WrongDigest().Times(1)},
		{ContentType("text/plain")},
		{Slow(32*kib, 10*time.Millisecond)},
		{Latency(50 * time.Millisecond)},
		{Redirect(http.StatusFound, 3)},
		{Redirect(http.StatusPermanentRedirect, 1)},
		{RedirectHost("localhost")},
		{RedirectLoop().Times(1)},
		{RedirectNowhere().Times(1)},
	}
}
